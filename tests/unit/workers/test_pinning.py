from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.workers.messages import CacheSpec, WorkerSpec
from mm_orch.workers.pinning import find_gpus

SPEC = WorkerSpec(
    address="",
    engine="echo",
    engine_spec=EngineSpec(
        model="m", directory="", context_length=8, eos_token_ids=(), cache_directory=""
    ),
    batcher=BatcherSpec(max_batch_size=1, max_batch_tokens=1),
    cache=CacheSpec(),
)
_SHOW = """
import os, sys, msgspec
from mm_orch.workers.messages import WorkerSpec
from mm_orch.workers.pinning import pin
pin(msgspec.json.decode(sys.argv[1], type=WorkerSpec))
print(sorted(os.sched_getaffinity(0)), os.environ.get("CUDA_VISIBLE_DEVICES"))
"""


def show(visible: str | None, **share: tuple[int, ...]) -> str:
    spec = msgspec.json.encode(msgspec.structs.replace(SPEC, **share)).decode()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible or ""}
    if visible is None:
        del environment["CUDA_VISIBLE_DEVICES"]
    command = [sys.executable, "-c", _SHOW, spec]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_worker_keeps_to_its_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    assert show(None) == f"{cores} None"
    assert show(None, cores=(cores[-1],)) == f"{[cores[-1]]} None"


@pytest.mark.parametrize(
    ("visible", "gpus", "seen"),
    [(None, (1,), "1"), ("4,5,6,7", (2, 3), "6,7"), ("GPU-a, GPU-b", (1,), "GPU-b")],
)
def test_a_worker_sees_its_gpus_of_those_that_the_server_sees(
    visible: str | None, gpus: tuple[int, ...], seen: str
) -> None:
    assert show(visible, gpus=gpus).endswith(f" {seen}")


def test_gpus_are_counted_as_the_server_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    assert find_gpus() == (0, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == ()
