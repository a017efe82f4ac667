"""A pseudo-terminal with a program of ours in it, read as a person would see it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

from tests.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

_TIMEOUT_S = 60
_READ_BYTES = 65536
# A session's leader takes the first terminal that it opens: Ctrl-C and resizing then reach it.
_TAKE_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.argv[1], sys.argv[1:])
"""
_STYLE = re.compile("\x1b\\[[0-9]*m")
HOME = "\x1b[H"
CLEAR_BELOW = "\x1b[J"


class TerminalProcess:
    """The command line in a terminal of its own; leaving ``with`` kills what still runs."""

    def __init__(
        self,
        *arguments: str,
        directory: Path,
        columns: int = 120,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._terminal, inside = pty.openpty()
        self._output = b""
        self.resize(columns)
        program = [sys.executable, "-P", "-m", "mm_orch.main", *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *program],
            cwd=directory,
            env=clean_environment() | {"TERM": "xterm", "NO_COLOR": ""} | dict(environment or {}),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)

    @property
    def output(self) -> str:
        """All that was written so far."""
        return self._output.decode(errors="replace")

    @property
    def picture(self) -> str:
        """What the last complete drawing shows, without its looks."""
        drawings = [part for part in self.output.split(HOME)[1:] if CLEAR_BELOW in part]
        text = drawings[-1].partition(CLEAR_BELOW)[0] if drawings else ""
        return _STYLE.sub("", text).replace("\x1b[K", "").replace("\r", "")

    def resize(self, columns: int, lines: int = 50) -> None:
        """Give the window another size, as its user would."""
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def type(self, keys: str) -> None:
        """Press keys; control characters are what the terminal makes of them."""
        os.write(self._terminal, keys.encode())

    def read_until(self, is_there: Callable[[Self], bool]) -> str:
        """Read until it is there; return the picture."""
        end_s = time.monotonic() + _TIMEOUT_S
        while not is_there(self):
            if time.monotonic() > end_s or not self._read():
                raise AssertionError(f"it never came; the last was\n{self.output[-4000:]}")
        return self.picture

    def wait(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(_TIMEOUT_S)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], _TIMEOUT_S)
        try:
            piece = os.read(self._terminal, _READ_BYTES) if ready else b""
        except OSError:  # Linux's end of file, when nobody has the inside open
            piece = b""
        self._output += piece
        return bool(piece)
