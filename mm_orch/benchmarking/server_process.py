"""Runs a server as a child process for as long as it is measured."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from mm_orch.benchmarking import process_tree
from mm_orch.core.errors import ServerStartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

HOST = "127.0.0.1"
_POLL_S = 0.1
_POLL_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 40.0
_NUM_TOLD_LINES = 5


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess:
    """A child with its own process group; leaving ``with`` ends it and what it has started.

    Args:
        command: the program and its arguments, listening on ``port``.
        port: where it will listen.
        ready_path: answers 200 when the server takes requests.
        log: file that takes what it prints.
        environment: of the child; None hands this process's own on.
        directory: working folder; None is this process's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        ready_path: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.port = port
        self._ready_path = ready_path
        self._log = log
        self._command = list(command)
        with log.open("wb") as sink:
            self._process = subprocess.Popen(  # noqa: S603 - a command of the caller's own
                self._command,
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its number, not those of what it has started."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def cpu_s(self) -> float:
        """Processor time of it and its children so far."""
        return process_tree.cpu_s(self._process.pid)

    @property
    def peak_memory_bytes(self) -> int | None:
        """Largest memory of it and its children; see process_tree."""
        return process_tree.peak_memory_bytes(self._process.pid)

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until it takes requests.

        Raises:
            ServerStartError: it ended, or the time ran out; with its last lines.
        """
        end_s = time.monotonic() + timeout_s
        while not self._answers():
            if not self.is_alive:
                raise self._fault(f"ended with {self._process.returncode}")
            if time.monotonic() > end_s:
                raise self._fault(f"is not ready after {timeout_s:g} s")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """End it and everything that it has started."""
        if self.is_alive:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # Children that outlived it are of its group.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_POLL_TIMEOUT_S)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _fault(self, what: str) -> ServerStartError:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        told = " | ".join(lines[-_NUM_TOLD_LINES:])
        return ServerStartError(f"The server ({self._command[0]} ...) {what}. It said: {told}")
