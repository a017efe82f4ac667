"""Greedy tokens of step backends, for comparing one with another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.registry import load_engine
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.core.generation import TokenChunk

    Step = Callable[[list[ScheduledSequence]], list[TokenChunk]]

PROMPT = [(7 * i + 3) % VOCAB_SIZE for i in range(30)]


def spec_of(directory: Path | str, compiled: Path, **settings: object) -> EngineSpec:
    return EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=256,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(compiled),
        settings=settings,
    )


def greedy(step: Step, prompt: list[int], num_tokens: int) -> list[int]:
    params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
    sequence = Sequence(
        sequence_id="a", token_ids=list(prompt), params=params, block_ids=list(range(16))
    )
    while sequence.num_output_tokens < num_tokens:
        count = sequence.num_uncomputed_tokens
        [chunk] = step([ScheduledSequence(sequence, count)])
        sequence.num_computed_tokens += count
        sequence.token_ids.extend(chunk.token_ids)
    return sequence.token_ids[len(prompt) :]


def greedy_with_pytorch(spec: EngineSpec, prompts: list[list[int]], count: int) -> list[list[int]]:
    backend = load_engine("pytorch")()
    backend.start(spec)
    outputs = [greedy(backend.step, prompt, count) for prompt in prompts]
    backend.stop()
    return outputs
