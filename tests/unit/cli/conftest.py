from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.cli.scripted_server import Script, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def peer() -> Iterator[Script]:
    """A running peer; tests change its script before they ask."""
    with serve(Script()) as script:
        yield script


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Take back what commands that run in this very process set for all of it."""
    root, hook = logging.getLogger(), sys.excepthook
    before = root.handlers[:]
    loggers = [root, *(logging.getLogger(name) for name in ("mm_orch", "mm_orch.workers"))]
    levels = [one.level for one in loggers]
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)
            with contextlib.suppress(OSError):  # the full disk's
                handler.close()
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)
    logging.captureWarnings(capture=False)
    sys.excepthook = hook
