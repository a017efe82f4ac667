"""Programs that answer over HTTP when they are ready, started and ended for tests."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, TypeVar

from tests.available import require_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Value = TypeVar("Value")

_TIMEOUT_S = 60
# How often one is asked again; it decides nothing but how soon a test goes on.
_POLL_S = 0.1


class Daemon:
    """A running program, at an address of this machine."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self.url = f"http://{address}"
        self.process = process

    def get(self, path: str, **parameters: object) -> Any:
        """Return what a path answers: JSON read, of its API, else the bytes."""
        query = urllib.parse.urlencode({name: str(value) for name, value in parameters.items()})
        with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=30) as response:  # noqa: S310 - ours
            body = response.read()
        return json.loads(body) if path.startswith("/api") else body

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def wait_until_ready(self) -> None:
        end_s = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                self.get("/-/ready")
            except (urllib.error.URLError, ConnectionError):
                # No listener yet, or 503 while it reads what it has stored.
                assert self.process.poll() is None, f"{self.process.args!r} has ended"
                assert time.monotonic() < end_s, f"{self.process.args!r} does not answer"
                time.sleep(_POLL_S)
            else:
                return


@contextlib.contextmanager
def run_daemon(
    program: str, *arguments: str, address: str, directory: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that Prometheus' project made, wait until it is ready, and end it.

    Args:
        program: its name; the test is skipped without it.
        arguments: beside its address and how much it logs.
        address: host and port to listen on.
        directory: its log lies there.
    """
    require_program(program)
    command = [program, f"--web.listen-address={address}", "--log.level=warn", *arguments]
    with (directory / f"{program}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        daemon = Daemon(address, process)
        try:
            daemon.wait_until_ready()
            yield process
        finally:
            daemon.stop()


def find_free_address() -> str:
    """Return host and port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def poll(look: Callable[[], Value], is_right: Callable[[Value], bool], what: str) -> Value:
    """Look again until what is seen is right; return it."""
    end_s = time.monotonic() + _TIMEOUT_S
    while not is_right(seen := look()):
        assert time.monotonic() < end_s, f"{what} is {seen}"
        time.sleep(_POLL_S)
    return seen
