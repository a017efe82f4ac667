"""Nodes of a real Ray cluster on this machine, each of which can be lost at once."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.daemons import find_free_address
from tests.processes import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RAY = str(Path(sys.executable).with_name("ray"))
_STARTED = "Ray runtime started."
_POLL_S = 0.05


def require_ray() -> None:
    """Skip the test where Ray is not installed; fail where it has to be."""
    if importlib.util.find_spec("ray") is not None:
        return
    if "cluster" in os.environ.get("MUAI_REQUIRED_ENGINES", "").split(","):
        pytest.fail("Ray is not installed, and MUAI_REQUIRED_ENGINES names cluster")
    pytest.skip("Ray is not installed")


class Node:
    """One node: ``ray start --block`` and all that it has started."""

    def __init__(self, environment: Mapping[str, str], *options: str) -> None:
        self._process = subprocess.Popen(
            [RAY, "start", "--block", "--disable-usage-stats", *options],
            env=clean_environment() | {"PYTHONUNBUFFERED": "1"} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if _STARTED in line:
                return
        self.lose()
        raise AssertionError("".join(said))

    @property
    def pid(self) -> int:
        """The process that has started all others of this node."""
        return self._process.pid

    def find_workers(self) -> list[psutil.Process]:
        """Return the processes of the workers that run on this node."""
        return [one for one in self._members() if _is_worker(one)]

    def freeze(self) -> None:
        """Stop everything that runs on this node: its connections stay, and nothing answers."""
        for member in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()

    def lose(self) -> None:
        """Kill everything that runs on this node, as if its power had gone."""
        for member in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _members(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class Nodes:
    """A cluster whose head runs no workers."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        # What all that belong to the cluster are started with.
        self.environment = {
            **environment,
            "RAY_TMPDIR": str(directory),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self.address = find_free_address()
        port = self.address.rpartition(":")[2]
        self._head = Node(
            self.environment,
            *("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"),
            f"--temp-dir={directory}",
        )
        self._nodes: list[Node] = []

    @property
    def all(self) -> list[Node]:
        """Its nodes, the head first, those that were lost among them."""
        return [self._head, *self._nodes]

    def add(self, num_cpus: int = 1) -> Node:
        """Start a node; each worker takes as many of its cores as the server says, one if not."""
        options = (f"--address={self.address}", f"--num-cpus={num_cpus}")
        self._nodes.append(Node(self.environment, *options))
        return self._nodes[-1]

    def find_workers(self) -> dict[int, Node]:
        """Return the nodes that run workers, by the workers' process ids."""
        return {one.pid: node for node in self._nodes for one in node.find_workers()}

    def wait_for_worker(self, *, other_than: int = 0, timeout_s: float = 60) -> tuple[Node, int]:
        """Wait until a worker runs that is not this process; return its node and process id."""
        end_s = time.monotonic() + timeout_s
        while True:
            for pid, node in self.find_workers().items():
                if pid != other_than:
                    return node, pid
            assert time.monotonic() < end_s, "no node runs a worker"
            time.sleep(_POLL_S)

    def close(self) -> None:
        """End all nodes."""
        for node in (*self._nodes, self._head):
            node.lose()


@contextlib.contextmanager
def run_nodes(environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Nodes]:
    """Run a cluster that has no node for workers yet.

    Args:
        environment: variables of all nodes and of the workers that run there.
    """
    # Sockets lie there, and their paths must be short.
    directory = Path(tempfile.mkdtemp(prefix="ray-"))
    nodes = None
    try:
        nodes = Nodes(directory, environment)
        yield nodes
    finally:
        if nodes is not None:
            nodes.close()
        shutil.rmtree(directory, ignore_errors=True)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return any("mm_orch.workers.process" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
