"""Chooses which model answers a request."""
