"""The actor: what Ray places on a node, and under which the worker's own process runs.

The process beneath is the very one that the server starts on its own machine, so an engine that
crashes or has its process killed is told apart from a node that is gone.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from mm_orch.workers import messages
from mm_orch.workers.launching import make_command

if TYPE_CHECKING:
    from typing import IO

logger = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 16
_CONNECT_TIMEOUT_S = 10.0
NUM_THREADS = 3
"""One waits for the log, one for the end, one answers."""


class WorkerHost:
    """Runs one worker; what it has started ends with it.

    Args:
        spec_json: the worker's WorkerSpec.

    Raises:
        OSError: this node cannot reach the server.
        FileNotFoundError: the model's files are not on this node.
    """

    def __init__(self, spec_json: bytes) -> None:
        spec = msgspec.json.decode(spec_json, type=messages.WorkerSpec)
        _check_files(spec)
        _check_way(spec.address)
        # Started in the constructor, that is in the actor's main thread: the kernel ends the worker
        # with the thread that has started it.
        try:
            self._process = _start(make_command(spec.python, "process"))
        except OSError as error:
            # Another engine may do here: told as by a worker that refuses, not as a lost place.
            said = f"{spec.python} cannot be started on {socket.gethostname()}: {error.strerror}"
            code = f"import sys; sys.stdin.readline(); sys.exit({said!r})"
            self._process = _start([sys.executable, "-c", code])
        _take_priority_of_node(self._process.pid)
        stdin = _pipe(self._process.stdin)
        # It stays open: its end tells the worker that this actor is gone.
        stdin.write(msgspec.json.encode(_adapt(spec)) + b"\n")
        stdin.flush()

    def describe(self) -> str:
        """Say where the worker runs."""
        return f"process {self._process.pid} of {socket.gethostname()}"

    def read_log(self) -> bytes:
        """Wait for what the worker writes next to its standard error; nothing at the end of it."""
        return os.read(_pipe(self._process.stderr).fileno(), _PIECE_BYTES)

    def wait(self) -> int:
        """Wait for the worker's end and return its exit code; negative is the signal's number."""
        return self._process.wait()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the server's own interpreters and code
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _adapt(spec: messages.WorkerSpec) -> messages.WorkerSpec:
    """Return what the worker is told: its cores are its own here, Ray gives them to nobody else."""
    if spec.placement is None:
        return spec
    num_threads = max(1, int(spec.placement.num_cpus))
    return msgspec.structs.replace(
        spec,
        lease_directory="",
        cores=(),
        gpus=(),
        engine_spec=msgspec.structs.replace(spec.engine_spec, num_threads=num_threads),
    )


def _take_priority_of_node(pid: int) -> None:
    """Undo that Ray runs its workers behind everything else on a node: answers are waited for."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, os.getppid()))
    except PermissionError:
        logger.info("the worker stays behind others: start nodes with RAY_worker_niceness=0")


def _check_files(spec: messages.WorkerSpec) -> None:
    directory = spec.engine_spec.directory
    if directory and not os.path.isdir(directory):  # noqa: PTH112
        raise FileNotFoundError(
            f"{socket.gethostname()} has not the files of {spec.engine_spec.model} in {directory}:"
            " have all nodes share system.data_dir"
        )


def _check_way(address: str) -> None:
    """Try the server's port: ZeroMQ would say nothing, and the server would wait for long."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise OSError(
            f"{socket.gethostname()} cannot reach the server at {address} ({error}):"
            " set cluster.host to an address that all nodes reach"
        ) from error


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise TypeError("the worker was started without this pipe")
    return pipe
