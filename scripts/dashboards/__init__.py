"""Grafana dashboards of the server's metrics; see generate_dashboards.py."""
