"""Queries labelled with the workflow that should answer them: what routers are measured on."""
