"""Chooses which model or workflow answers where a request leaves it open."""
