"""Removes the files of vLLM's processes, however this process and those may end."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

import psutil

logger = logging.getLogger(__name__)

# Its input ends when this process closes it or dies, and not before: nobody else holds the pipe.
_SCRIPT = 'while IFS= read -r path; do set -- "$@" "$path"; done; rm -rf -- "$@"'
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - where the kernel shows it
_TIMEOUT_S = 10.0


class Leftovers:
    """A small process that waits for this one's end, in a session that no signal to us reaches."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - a constant; paths go through the pipe
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, path: str) -> None:
        """Have this file, or this directory with all in it, removed at the end."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{path}\n".encode())
            self._process.stdin.flush()

    def add_shared_memory(self) -> None:
        """Have what this process's children share removed too, as it is now.

        A child that is killed leaves it in memory.
        """
        for path in sorted(_find_shared_memory()):
            self.add(path)

    def remove(self) -> None:
        """Remove everything now; safe twice."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(_TIMEOUT_S)


def _find_shared_memory() -> set[str]:
    paths = set()
    for child in psutil.Process().children(recursive=True):
        try:
            lines = Path(f"/proc/{child.pid}/maps").read_text().splitlines()
        except OSError as error:
            logger.debug("what %d shares is not known: %s", child.pid, error)
            continue
        paths |= {line[line.index(_SHARED_MEMORY) :] for line in lines if _SHARED_MEMORY in line}
    return {path for path in paths if not path.endswith(" (deleted)")}
