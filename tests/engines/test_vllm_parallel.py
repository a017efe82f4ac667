"""vLLM's tensor parallelism with real ranks, on CPUs; runs in vLLM's environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.vllm.engine import VllmEngine
from tests.available import require_engine
from tests.contracts.streaming import ModelReference, greedy, make, random_prompt, run
from tests.tiny_models import EOS_TOKEN_ID, make_wide_llama

if TYPE_CHECKING:
    from pathlib import Path

# Ranks wait for each other without giving up their cores: beside other work a step takes long.
pytestmark = pytest.mark.timeout(900)

NUM_RANKS = 2


@pytest.fixture(autouse=True)
def _needs_vllm() -> None:
    require_engine("vllm")
    if len(os.sched_getaffinity(0)) < NUM_RANKS:
        pytest.skip("each rank takes a core")


def test_two_ranks_of_vllm_share_each_layer_and_say_what_the_whole_model_says(
    tmp_path: Path,
) -> None:
    directory = make_wide_llama(tmp_path)
    sequences = [
        make(str(number), random_prompt(number, 20 + number), greedy(ignore_eos=True))
        for number in range(3)
    ]
    reference = ModelReference(directory)
    expected = {one.sequence_id: reference.generate(one)[0] for one in sequences}
    spec = EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=512,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=NUM_RANKS,
        cache_directory=str(tmp_path / "compiled"),
        max_kv_bytes=2**22,
        max_batch_size=4,
        settings={"tensor_parallel_size": NUM_RANKS},
    )
    engine = VllmEngine()
    engine.start(spec)
    try:
        names = [child.name() for child in psutil.Process().children(recursive=True)]
        told = run(engine, sequences)
    finally:
        engine.stop()

    assert sum("Worker" in name for name in names) == NUM_RANKS, names
    assert told.tokens == expected
