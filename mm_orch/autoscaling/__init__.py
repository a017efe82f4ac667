"""Fits the number of a model's replicas to its load, within a range that the configuration says."""
