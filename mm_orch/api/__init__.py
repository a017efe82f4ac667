"""Speaks HTTP: OpenAI's API, operations, errors. Decides nothing."""
