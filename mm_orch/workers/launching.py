"""Starts the process of a worker, and says how one ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineStartError
from mm_orch.core.place_errors import NoPlaceError
from mm_orch.gpus.visible import VISIBLE_GPUS

if TYPE_CHECKING:
    from mm_orch.workers import messages

# The worker must find this very package, installed or not, and nothing of the current folder.
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.workers.{module} import main; sys.exit(main())"
)


def make_command(python: str, module: str) -> list[str]:
    """Return the command that runs the function main of a module of this package."""
    return [python or sys.executable, "-P", "-c", _START_CODE.format(module=module)]


async def start_process(spec: messages.WorkerSpec) -> asyncio.subprocess.Process:
    """Start the process with the interpreter that has its engine.

    One that is placed on a cluster is started there by a process here, which hands through what it
    is told and what the worker says, and ends as it ends.

    Raises:
        EngineStartError: the interpreter cannot be started.
        NoPlaceError: the one that has Ray cannot be.
    """
    if spec.placement is None:
        python, module, option = spec.python, "process", f"optimization.{spec.engine}.python"
    else:
        python, module, option = spec.placement.python, "cluster.relay", "cluster.python"
    command = make_command(python, module)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_make_environment(spec),
            # A group of its own, so that whatever an engine has started ends with it.
            start_new_session=True,
        )
    except OSError as error:
        error_class = EngineStartError if spec.placement is None else NoPlaceError
        # It does not say which file it is about.
        raise error_class(
            f"{command[0]}, in which {spec.engine} is to run, cannot be started: {error.strerror}.",
            remedy=f"Correct {option}." if python else None,
        ) from error


def _make_environment(spec: messages.WorkerSpec) -> dict[str, str] | None:
    # From the start, before any library looks: a GPU that has failed may stop who only opens it.
    if spec.visible_gpus is None:
        return None
    return {**os.environ, VISIBLE_GPUS: spec.visible_gpus}


def describe_exit(exit_code: int) -> str:
    """Say how a process ended: its code, or the signal that killed it."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        # Real-time signals have numbers only.
        return f"killed by signal {-exit_code}"
