"""Reads what a worker writes to its standard error, and keeps the last lines of it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque

logger = logging.getLogger(__name__)

_NUM_KEPT_LINES = 20
_PIECE_BYTES = 1 << 16
_MAX_LINE_BYTES = 4096
_LINE_ENDS = re.compile(rb"[\r\n]+")
# What extension modules say of themselves when a process ends; the reason stands above it.
_NOISE = re.compile(r"nanobind: |\s*- leaked |\s*- \.\.\. skipped |See https://nanobind\.")
# After a process has ended, what it wrote last may still be on its way.
_LAST_LINES_S = 0.2


class LogTail:
    """The log of one process; reads from when it is made until :meth:`close`."""

    def __init__(self, process: asyncio.subprocess.Process, *, name: str) -> None:
        self._name = name
        self._lines: deque[str] = deque(maxlen=_NUM_KEPT_LINES)
        self._reader = asyncio.create_task(self._read(process.stderr))

    async def last_words(self) -> str:
        """Return the last lines, once the process has closed its end."""
        await asyncio.wait({self._reader}, timeout=_LAST_LINES_S)
        return "".join(f"\n  | {line}" for line in self._lines)

    def close(self) -> None:
        """Read no more."""
        self._reader.cancel()

    async def _read(self, stderr: asyncio.StreamReader | None) -> None:
        if stderr is None:
            return
        rest = b""
        # Not line by line: asyncio refuses long ones, and progress bars end theirs with \r.
        while piece := await stderr.read(_PIECE_BYTES):
            *lines, rest = _LINE_ENDS.split(rest + piece)
            for line in lines:
                self._keep(line)
            rest = rest[:_MAX_LINE_BYTES]
        self._keep(rest)

    def _keep(self, line: bytes) -> None:
        text = line[:_MAX_LINE_BYTES].decode(errors="replace").rstrip()
        if text:
            if not _NOISE.match(text):
                self._lines.append(text)
            logger.debug("%s: %s", self._name, text)
