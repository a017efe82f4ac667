"""Fits the live options to the work that is seen, at the side of the path."""
