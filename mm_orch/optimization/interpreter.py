"""Asks another Python interpreter whether an engine can run there."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.optimization.engines.contract import Availability

if TYPE_CHECKING:
    from mm_orch.core.generation import Task

_TIMEOUT_S = 60.0
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); import msgspec;"
    " from mm_orch.optimization.registry import probe_engine;"
    " sys.stdout.buffer.write(msgspec.json.encode(probe_engine(*sys.argv[1:])))"
)


def probe_elsewhere(name: str, python: str, task: Task = "generate") -> Availability:
    """Return what the engine's probe says in that interpreter; blocks for its start.

    It needs what a worker needs (msgspec, pyzmq, numpy), and the engine's library.
    """
    try:
        answer = subprocess.run(  # noqa: S603 - the interpreter that the operator configured
            [python, "-P", "-c", _CODE, name, task],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        return msgspec.json.decode(answer.stdout, type=Availability)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        reason = f"{python} cannot load the engine: {lines[-1] if lines else 'it says nothing'}"
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        reason = f"{python} cannot be asked: {error}"
    return Availability(
        engine=name,
        is_available=False,
        reason=reason,
        remedy=f"correct optimization.{name}.python, or install what is missing there",
    )
