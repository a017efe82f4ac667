"""Reads files, cuts them into chunks, has these embedded, and gives all to the store."""
