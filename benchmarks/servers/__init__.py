"""Servers to compare with: other engines behind one small HTTP front."""
