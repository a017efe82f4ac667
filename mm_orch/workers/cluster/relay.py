"""Stands on the server's machine for a worker that runs on a cluster, as ``ssh`` would.

    stdin   first line: WorkerSpec as JSON; end of file: the server is gone
    stderr  the log lines of the worker
    end     as the worker ends: the same exit code, or the same signal; with a code of its own where
            there is no place for it, or that is lost

Ray is a client library that ends its process when its node is lost. Here it ends no server, and
what this process has started on the cluster is ended by Ray when this process has ended.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mm_orch.workers import messages
from mm_orch.workers.cluster.hosting import NUM_THREADS, WorkerHost
from mm_orch.workers.cluster.session import connect, say
from mm_orch.workers.placement import EXIT_LOST, EXIT_NOT_PLACED

if TYPE_CHECKING:
    from mm_orch.workers.placement import Placement

# Beside the weights: what a library takes, and what loading them takes for a while.
_WEIGHTS_FACTOR = 1.25
_LIBRARIES_BYTES = 512 << 20


def main() -> NoReturn:
    """Run one worker on the cluster, and end as it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    line = sys.stdin.buffer.readline()
    threading.Thread(target=_exit_with_server, daemon=True).start()
    spec = msgspec.json.decode(line, type=messages.WorkerSpec)
    if spec.placement is None:
        raise ValueError("the worker is to run on no cluster")
    try:
        ray = connect(spec.placement.cluster, auth_mode=spec.placement.auth_mode)
    except (ImportError, ConnectionError, RuntimeError) as error:
        # The last is Ray's own word for a cluster of another release.
        say(f"the cluster cannot be reached: {error}")
        os._exit(EXIT_LOST)
    try:
        exit_code = _follow(ray, _place(ray, spec, spec.placement), spec.placement.timeout_s)
    except ray.exceptions.RayError as error:
        say(_describe(error))
        exit_code = EXIT_LOST
    if exit_code < 0:
        _end_by(-exit_code)
    # Without taking leave of Ray, which takes half a second: it notices.
    os._exit(exit_code)


def find_bytes(spec: messages.WorkerSpec) -> int:
    """Return what a worker is likely to take of its node's memory; 0 where a GPU holds it."""
    if spec.placement is None or spec.placement.num_gpus:
        return 0
    engine = spec.engine_spec
    names = [engine.gguf_file] if engine.gguf_file else ["*"]
    folder = Path(engine.directory) if engine.directory else None
    files = [path for name in names for path in (folder.rglob(name) if folder else ())]
    weights_bytes = sum(path.stat().st_size for path in files if path.is_file())
    return int(weights_bytes * _WEIGHTS_FACTOR) + engine.max_kv_bytes + _LIBRARIES_BYTES


def _place(ray: Any, spec: messages.WorkerSpec, placement: Placement) -> Any:
    """Have Ray choose a node with room, the emptiest first, and start the worker there."""
    return (
        ray.remote(WorkerHost)
        .options(
            num_cpus=placement.num_cpus,
            num_gpus=placement.num_gpus,
            memory=find_bytes(spec) or None,
            max_concurrency=NUM_THREADS,
            # What is done about a worker that has ended is decided by the server.
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        .remote(msgspec.json.encode(spec))
    )


def _follow(ray: Any, host: Any, timeout_s: float) -> int:
    """Hand through what the worker says until it has ended; return its exit code."""
    where = host.describe.remote()
    placed, _ = ray.wait([where], timeout=timeout_s)
    if not placed:
        free = {name: round(size, 2) for name, size in ray.available_resources().items()}
        say(f"no node had room within cluster.placement_timeout_s = {timeout_s:g}; free: {free}")
        return EXIT_NOT_PLACED
    say(f"it runs as {ray.get(where)}")
    while piece := ray.get(host.read_log.remote()):
        os.write(sys.stderr.fileno(), piece)
    return int(ray.get(host.wait.remote()))


def _end_by(number: int) -> None:
    """End by the signal that ended the worker."""
    # It crashed there, and no image of this process would tell why.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _describe(error: Exception) -> str:
    # Ray repeats the whole stack of the actor; the last line says what it was about.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _exit_with_server() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
