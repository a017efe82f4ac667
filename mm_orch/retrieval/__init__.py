"""Finds the passages that answer a question, and says whether any does."""
