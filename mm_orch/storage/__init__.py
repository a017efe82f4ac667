"""Keeps conversations, documents and outcomes, in SQLite files or in a shared PostgreSQL."""
