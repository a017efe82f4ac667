"""Which version this is; the one place that says so."""

__version__ = "1.0.0"
