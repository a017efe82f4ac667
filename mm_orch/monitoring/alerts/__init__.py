"""Detects what is out of the ordinary and tells people and machines of it, off the request path."""
