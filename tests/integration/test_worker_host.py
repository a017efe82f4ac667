"""What runs on a cluster's node, without Ray: a real worker under it, and how it ends."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
import zmq.asyncio

from mm_orch.workers import messages
from mm_orch.workers.cluster.hosting import WorkerHost
from mm_orch.workers.cluster.relay import find_bytes
from mm_orch.workers.connection import bind
from mm_orch.workers.placement import Placement
from tests.integration.test_worker import spec_of
from tests.processes import run_cli

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.workers.messages import WorkerSpec

HERE = Placement(cluster="", host="127.0.0.1", num_cpus=1, num_gpus=0, timeout_s=1)
PATIENCE_S = 60


def spec_at(address: str, key: str = "", directory: str = "") -> WorkerSpec:
    spec = msgspec.structs.replace(spec_of(), address=address, key=key, placement=HERE)
    engine_spec = msgspec.structs.replace(spec.engine_spec, directory=directory)
    return msgspec.structs.replace(spec, engine_spec=engine_spec)


class Scene:
    """A worker under its host, and the server's end."""

    def __init__(self, python: str = "") -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.server_end = bind(self.socket, HERE)
        spec = spec_at(self.server_end.address, self.server_end.key)
        spec = msgspec.structs.replace(spec, python=python)
        self.host = WorkerHost(msgspec.json.encode(spec))

    @property
    def pid(self) -> int:
        return self.host._process.pid

    async def receive(self) -> messages.FromWorker:
        return messages.decode_from_worker(await asyncio.wait_for(self.socket.recv(), PATIENCE_S))

    async def end(self) -> tuple[int, bytes]:
        """Wait for the worker's end; return its exit code and the rest of its log."""
        log = b""
        while piece := await asyncio.to_thread(self.host.read_log):
            log += piece
        return await asyncio.to_thread(self.host.wait), log

    def close(self) -> None:
        process = self.host._process
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                pipe.close()
        self.server_end.close()
        self.socket.close()
        self.context.term()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


async def test_the_worker_attaches_and_leaves_when_asked(scene: Scene) -> None:
    assert isinstance(await scene.receive(), messages.Ready)
    assert f"process {scene.pid} of " in scene.host.describe()

    await scene.socket.send(messages.encode(messages.Shutdown()))

    assert (await scene.end())[0] == 0


async def test_the_signal_that_ended_the_worker_is_told(scene: Scene) -> None:
    await scene.receive()

    os.kill(scene.pid, signal.SIGKILL)

    assert (await scene.end())[0] == -signal.SIGKILL


async def test_an_engine_that_a_node_has_not_ends_as_one_that_refuses(tmp_path: Path) -> None:
    scene = Scene(str(tmp_path / "none"))

    exit_code, log = await scene.end()

    scene.close()
    assert exit_code == 1
    assert b"none cannot be started on " in log


async def test_the_worker_leaves_with_its_host(scene: Scene) -> None:
    await scene.receive()
    stdin = scene.host._process.stdin
    assert stdin is not None

    # As the kernel does for one that is gone.
    stdin.close()

    assert (await scene.end())[0] == 0


async def test_the_worker_is_as_urgent_as_its_node(scene: Scene) -> None:
    await scene.receive()

    assert psutil.Process(scene.pid).nice() == psutil.Process(os.getppid()).nice()


def test_a_node_that_does_not_reach_the_server_says_what_to_set() -> None:
    spec = spec_at("tcp://127.0.0.1:1", "key")

    with pytest.raises(OSError, match=r"cannot reach the server at .*: set cluster\.host"):
        WorkerHost(msgspec.json.encode(spec))


def test_a_node_without_the_models_files_says_so(tmp_path: Path) -> None:
    spec = spec_at("tcp://127.0.0.1:1", directory=str(tmp_path / "none"))

    with pytest.raises(FileNotFoundError, match=r"has not the files of m in .*system\.data_dir"):
        WorkerHost(msgspec.json.encode(spec))


def test_memory_is_asked_for_by_what_the_files_take(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(4 << 20))
    spec, without = spec_at("", directory=str(tmp_path)), spec_at("")

    assert find_bytes(spec) - find_bytes(without) == 5 << 20


def test_no_memory_of_a_node_is_asked_for_where_gpus_hold_the_model(tmp_path: Path) -> None:
    spec = spec_at("", directory=str(tmp_path))
    on_gpus = msgspec.structs.replace(HERE, num_gpus=1)

    assert find_bytes(msgspec.structs.replace(spec, placement=on_gpus)) == 0


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_a_server_whose_interpreter_has_no_ray_says_how_to_get_it(tmp_path: Path) -> None:
    result = run_cli("--server", "--port", "0", "--cluster", "auto", directory=tmp_path)

    assert result.returncode == 1
    assert "The cluster at auto cannot be joined" in result.stderr
    assert "has no Ray" in result.stderr
    assert "scripts/setup-engine cluster" in result.stderr
