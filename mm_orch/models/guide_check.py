"""Tries guides in a process of its own, before anything is generated.

The grammar library bounds most of its work but not all: some schemas of a few hundred bytes take it
minutes (multipleOf or patterns in allOf), and long chains of references end the process. The child
has a bound on its processor time and less stack than the processes that compile the guide later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import selectors
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import MuAIError

if TYPE_CHECKING:
    from typing import IO

    from mm_orch.core.guide import Guide

MAX_GUIDE_BYTES = 100_000
MAX_COMPILE_S = 0.5
"""Processor time."""

_NUM_KEPT = 256
# Far beyond its bound on processor time, however busy the machine is.
_PATIENCE_S = 30.0
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.models.guide_check_child import main; sys.exit(main())"
)


class GuideChecker:
    """Says whether answers can be kept to a guide. Safe to use from several threads.

    The child is started with the first guide and ends with :meth:`close`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._reasons: OrderedDict[Guide, str] = OrderedDict()

    def find_reason(self, guide: Guide) -> str:
        """Return why answers cannot be kept to this guide; empty when they can.

        Raises:
            MuAIError: the child cannot do its work here.
        """
        question = msgspec.json.encode(guide)
        if len(question) > MAX_GUIDE_BYTES:
            return f"it has {len(question)} bytes, at most {MAX_GUIDE_BYTES} are allowed"
        with self._lock:
            if guide not in self._reasons:
                self._reasons[guide] = self._ask(question)
                if len(self._reasons) > _NUM_KEPT:
                    self._reasons.popitem(last=False)
            return self._reasons[guide]

    def close(self) -> None:
        """End the child; safe twice."""
        with self._lock:
            self._end_child()

    async def aclose(self) -> None:
        """End the child; for who must not wait for it on the loop."""
        await asyncio.to_thread(self.close)

    def _ask(self, question: bytes) -> str:
        child = self._ensure_child()
        if child.stdin is None or child.stdout is None:
            raise AssertionError("the child was started with both pipes")
        answer = b""
        try:
            child.stdin.write(question + b"\n")
            child.stdin.flush()
            if _is_readable(child.stdout, _PATIENCE_S):
                answer = child.stdout.readline()
        except BrokenPipeError:
            # It has ended; the exit code says more.
            pass
        return str(json.loads(answer)) if answer else _reason_of_end(self._end_child())

    def _ensure_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            # Killed while nobody asked: its end says nothing of the next guide.
            self._end_child()
        if self._child is None:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter and our own module
                [sys.executable, "-P", "-c", _START_CODE],
                # The child ends when this pipe closes, so a killed parent leaves none behind.
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._child

    def _end_child(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        if child.stdout is not None and _is_readable(child.stdout, 0):
            # The end of its output: it is ending by itself, and its exit code tells how.
            child.wait()
        child.kill()
        if child.stdin is not None:
            # What it did not read can be written to nobody, which closing would tell of once more.
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        with child:
            return child.wait()


def _is_readable(pipe: IO[bytes], timeout_s: float) -> bool:
    # Not select.select, which takes no descriptor above 1023, and a busy server has those.
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(timeout_s))


def _reason_of_end(exit_code: int) -> str:
    match -exit_code:
        case signal.SIGPROF:
            return f"it takes more than {MAX_COMPILE_S:g} s to make a grammar of it"
        case signal.SIGKILL:
            return "it takes too long, or too much memory"
        case number if number > 0:
            return "it is nested too deeply, or takes too much memory"
    raise MuAIError(
        f"The process that tries schemas has ended with exit code {exit_code}.",
        remedy="Check that llguidance is installed: pip install llguidance.",
    )
