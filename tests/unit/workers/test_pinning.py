from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import psutil
import pytest

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.workers.launching import start_process
from mm_orch.workers.messages import CacheSpec, WorkerSpec

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
print(sorted(os.sched_getaffinity(0)))
"""


def show(**share: tuple[int, ...]) -> str:
    spec = msgspec.json.encode(msgspec.structs.replace(SPEC, **share)).decode()
    command = [sys.executable, "-c", _SHOW, spec]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_a_worker_keeps_to_its_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    assert show() == f"{cores}"
    assert show(cores=(cores[-1],)) == f"{[cores[-1]]}"


@pytest.mark.parametrize(
    ("visible", "seen"),
    [(None, "GPU-server"), ("GPU-a,GPU-b", "GPU-a,GPU-b"), ("", "")],
)
async def test_a_worker_sees_the_gpus_of_its_place_from_the_start(
    visible: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-server")
    process = await start_process(msgspec.structs.replace(SPEC, visible_gpus=visible))
    try:
        assert psutil.Process(process.pid).environ()["CUDA_VISIBLE_DEVICES"] == seen
    finally:
        process.kill()
        await process.wait()
