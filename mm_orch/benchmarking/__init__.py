"""Measures a server from outside, over HTTP: workloads, load, summaries, reports."""
