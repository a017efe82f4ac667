"""Greedy tokens of step backends, for comparing one with another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.optimization.registry import load_engine
from tests import stepping
from tests.tiny_models import VOCAB_SIZE

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec

PROMPT = [(7 * i + 3) % VOCAB_SIZE for i in range(30)]


def spec_of(directory: Path | str, compiled: Path, **settings: object) -> EngineSpec:
    return msgspec.structs.replace(
        stepping.spec_of(Path(directory)),
        num_threads=2,
        cache_directory=str(compiled),
        settings=settings,
    )


def greedy_with_pytorch(spec: EngineSpec, prompts: list[list[int]], count: int) -> list[list[int]]:
    backend = load_engine("pytorch")()
    backend.start(spec)
    outputs = [stepping.greedy(backend.step, prompt, count) for prompt in prompts]
    backend.stop()
    return outputs
