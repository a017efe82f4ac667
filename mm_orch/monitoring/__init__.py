"""Turns the path's events into series, spans and log lines. Stands at the side."""
