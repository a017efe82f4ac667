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
    """Skip the test where a program that it starts is not installed; fail where it has to be.

    MUAI_REQUIRED_PROGRAMS names the programs that have to, separated by commas.
    """
    if shutil.which(name) is not None:
        return
    reason = f"{name} is not installed"
    if is_required(name):
        pytest.fail(f"{reason}, and MUAI_REQUIRED_PROGRAMS names it")
    pytest.skip(reason)


def needs_program(name: str) -> pytest.MarkDecorator:
    """Mark tests to be skipped where a program is not installed; where it has to be, they run."""
    is_skipped = shutil.which(name) is None and not is_required(name)
    return pytest.mark.skipif(is_skipped, reason=f"{name} is not installed")


def is_required(program: str) -> bool:
    """Say whether MUAI_REQUIRED_PROGRAMS names a program."""
    return program in os.environ.get("MUAI_REQUIRED_PROGRAMS", "").split(",")
