"""Starts the process of a worker, and says how one ended."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from mm_orch.workers import messages

# The worker must find this very package, installed or not, and nothing of the current folder.
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.workers.process import main; sys.exit(main())"
)


async def start_process(spec: messages.WorkerSpec) -> asyncio.subprocess.Process:
    """Start the process with the interpreter that has its engine.

    Raises:
        EngineStartError: the interpreter cannot be started.
    """
    python = spec.python or sys.executable
    try:
        return await asyncio.create_subprocess_exec(
            python,
            "-P",
            "-c",
            _START_CODE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # A group of its own, so that whatever an engine has started ends with it.
            start_new_session=True,
        )
    except OSError as error:
        # It does not say which file it is about.
        raise EngineStartError(
            f"{python}, in which {spec.engine} is to run, cannot be started: {error.strerror}.",
            remedy=f"Correct optimization.{spec.engine}.python." if spec.python else None,
        ) from error


def describe_exit(exit_code: int) -> str:
    """Say how a process ended: its code, or the signal that killed it."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        # Real-time signals have numbers only.
        return f"killed by signal {-exit_code}"
