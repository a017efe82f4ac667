"""Turns streams of requests into steps of a batch."""
