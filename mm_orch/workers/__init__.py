"""Carries requests and tokens across the process line, supervises and restarts."""
