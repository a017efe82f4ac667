"""Measurements that docs/benchmarks.md quotes; each module is one, run with python -m."""
