"""Runs workers on the nodes of a Ray cluster; Ray is imported in processes of their own alone."""
