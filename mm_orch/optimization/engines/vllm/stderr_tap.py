"""Keeps the last lines that this process and its children write to standard error."""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_NUM_KEPT_LINES = 400
_PIECE_BYTES = 1 << 16
_STDERR = 2
# A child that has failed is gone, or nearly so.
_LAST_WORDS_S = 2.0
# Each of vLLM's processes says of its child only that it failed, and where to look.
_CAUSE = re.compile(r"\b(\w*(?:Error|Exception): (?!(?:Engine core|WorkerProc) initialization).+)")


class StderrTap:
    """A context manager that passes everything on and remembers the end of it.

    Children that were started inside go on writing through it until they end.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_NUM_KEPT_LINES)
        self._stderr = -1
        self._thread: threading.Thread | None = None

    def __enter__(self) -> StderrTap:
        self._stderr = os.dup(_STDERR)
        reading, writing = os.pipe()
        os.dup2(writing, _STDERR)
        os.close(writing)
        self._thread = threading.Thread(target=self._pass_on, args=(reading,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.dup2(self._stderr, _STDERR)

    def find_cause(self) -> str:
        """Return the last error that was written, or an empty string; to be asked at the end."""
        if self._thread is not None:
            self._thread.join(_LAST_WORDS_S)
        for line in reversed(self._lines):
            found = _CAUSE.search(line)
            if found:
                return found[1].strip()
        return ""

    def _pass_on(self, reading: int) -> None:
        rest = b""
        while piece := os.read(reading, _PIECE_BYTES):
            os.write(self._stderr, piece)
            *lines, rest = (rest + piece).split(b"\n")
            self._lines.extend(line.decode(errors="replace") for line in lines)
        os.close(reading)
        os.close(self._stderr)
