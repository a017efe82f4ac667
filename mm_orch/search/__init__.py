"""Finds pages for a question, on the web or in a recorded corpus, and takes their text out."""
