"""The exit codes of the command line."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130

# Of --status alone: how the system is.
DEGRADED = 1
CANNOT_SERVE = 2
