"""Which engines and programs a test run may pass over, and which it must have."""

from __future__ import annotations

import os
import shutil

import pytest

from mm_orch.optimization.registry import probe_engine


def require_engine(name: str, python: str = "") -> None:
    """Skip the test where the engine cannot run, with its reason; fail where it has to run.

    MUAI_REQUIRED_ENGINES names the engines that have to, separated by commas.

    Args:
        name: the engine.
        python: the interpreter that it is to run in; empty is this one.
    """
    availability = probe_engine(name, python=python)
    if availability.is_available:
        return
    reason = f"{name}: {availability.reason} ({availability.remedy})"
    if name in os.environ.get("MUAI_REQUIRED_ENGINES", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def require_program(name: str) -> None:
    """Skip the test where a program that it starts is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
