"""Real processes of this project, started and ended for tests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Self

ROOT = Path(__file__).parents[1]
_START_TIMEOUT_S = 120
# How often a process is asked again; it decides nothing but how soon a test goes on.
_POLL_S = 0.05
# A suite that runs in the background hands on that interrupts are ignored.
_INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("mm_orch.main", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class OpenStream:
    """A streamed answer that is being read; leaving ``with`` is the client going away."""

    def __init__(self, connection: http.client.HTTPConnection, path: str, body: object) -> None:
        self._connection = connection
        connection.request(
            "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        self._response: http.client.HTTPResponse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        """Yield the payload of each event, ``[DONE]`` included; waits for the head at first."""
        if self._response is None:
            self._response = self._connection.getresponse()
        for line in self._response:
            if line.startswith(b"data: "):
                yield line.removeprefix(b"data: ").decode().strip()

    def header(self, name: str) -> str:
        """Return a header of the answer, whose head has come; empty where it has none."""
        return "" if self._response is None else self._response.getheader(name, "")

    def close(self) -> None:
        """Close the connection; what the response still holds of it too."""
        if self._response is not None:
            self._response.close()
        self._connection.close()


class ServerProcess:
    """A running ``--server`` process."""

    def __init__(self, process: subprocess.Popen[str], stderr: Path) -> None:
        self.process = process
        self._stderr = stderr
        self.url = ""
        self.metrics_url = ""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._stderr.read_text()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 120,
    ) -> Reply:
        """Send one request and read the whole answer."""
        connection = self.connect(timeout_s)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(
                method, path, data, {"Content-Type": "application/json", **(headers or {})}
            )
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def connect(self, timeout_s: float = 120) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=timeout_s)

    def open_stream(self, body: object, path: str = "/v1/chat/completions") -> OpenStream:
        """Send a request whose answer is read piece by piece, or never."""
        return OpenStream(self.connect(), path, body)

    def wait_until(self, path: str, status: int, timeout_s: float = _START_TIMEOUT_S) -> Reply:
        """Ask until the path answers with this status."""
        return self.wait_for(path, lambda reply: reply.status == status, timeout_s)

    def wait_for(
        self, path: str, is_there: Callable[[Reply], bool], timeout_s: float = _START_TIMEOUT_S
    ) -> Reply:
        """Ask until the path answers with what is waited for."""
        end_s = time.monotonic() + timeout_s
        while True:
            reply = self.request("GET", path)
            if is_there(reply):
                return reply
            if time.monotonic() > end_s or self.process.poll() is not None:
                raise AssertionError(f"{path} is still {reply.status}: {reply.body!r}\n{self.log}")
            time.sleep(_POLL_S)

    def workers(self) -> list[psutil.Process]:
        """The processes that this server has started and that live."""
        return psutil.Process(self.pid).children(recursive=True)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end, which something else brings about; return the exit code."""
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start_server(
    directory: Path,
    *,
    config: Mapping[str, object] | str | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
) -> ServerProcess:
    """Start a server on free ports, in a folder of its own, and wait until it is ready.

    Args:
        directory: working folder; its configuration, log and standard error lie there.
        config: written as the configuration file; a string is taken as it is.
        arguments: more command line arguments.
        environment: variables over this process's own.
        wait: wait for /ready; without it, only for the socket.
    """
    command = [sys.executable, "-P", "-m", "mm_orch.main", "--server", "--port", "0", *arguments]
    if config is not None:
        path = directory / "muai.yaml"
        # JSON is YAML.
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        command += ["--config", str(path)]
    stderr = directory / "stderr.txt"
    with stderr.open("w") as sink:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=clean_environment() | {"MUAI_MON_PROMETHEUS_PORT": "0"} | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
        )
    server = ServerProcess(process, stderr)
    try:
        _read_addresses(server, process.stdout)
        if wait:
            server.wait_until("/ready", 200)
    except BaseException:
        # Nobody else has it to end it.
        server.stop(signal.SIGKILL)
        raise
    return server


def _read_addresses(server: ServerProcess, stdout: IO[str] | None) -> None:
    assert stdout is not None
    for line in stdout:
        urls = [word for word in line.split() if word.startswith("http://")]
        if urls and urls[0].endswith("/metrics"):
            server.metrics_url = urls[0]
        elif urls:
            server.url = urls[0].rstrip("/")
        if server.url and line.startswith("Ready for requests"):
            return
    raise AssertionError(f"the server ended with {server.process.wait()}:\n{server.log}")


def share_models(source: Path, directory: Path) -> dict[str, str]:
    """Make a data directory that has another one's models, and nothing else of it.

    Returns:
        The environment of processes that are to use it.
    """
    for name in ("models", "compiled"):
        (source / name).mkdir(exist_ok=True)
        (directory / name).symlink_to(source / name)
    return {"MUAI_DATA_DIR": str(directory)}


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables that configure the product."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MUAI_")}
    if "MUAI_DATA_DIR" in os.environ:
        kept["MUAI_DATA_DIR"] = os.environ["MUAI_DATA_DIR"]
    return kept | {"PYTHONPATH": str(ROOT)}


@contextmanager
def start_cli(
    *arguments: str, directory: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Start the command line so that it can be interrupted; what still runs is killed."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _INTERRUPTIBLE, *arguments],
        cwd=directory,
        env=clean_environment() | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run_cli(
    *arguments: str,
    directory: Path,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "mm_orch.main", *arguments],
        cwd=directory,
        env=clean_environment() | dict(environment or {}),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
