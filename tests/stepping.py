"""Drives a started step backend by hand, one sequence at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from tests.tiny_models import EOS_TOKEN_ID

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.optimization.engines.contract import StepBackend


def spec_of(directory: Path) -> EngineSpec:
    """Return what loads a tiny model in fp32, with memory for one sequence of 256 tokens."""
    return EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=256,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=1,
        # Beside the folders of all tests: the kernels need not be compiled for each.
        cache_directory=str(directory.parent / "compiled"),
    )


def greedy(backend: StepBackend, prompt: list[int], num_tokens: int, chunk: int) -> list[int]:
    """Return the likeliest continuation, the prompt taken in chunks."""
    sequence = Sequence(
        sequence_id="a",
        token_ids=list(prompt),
        params=SamplingParams(max_tokens=num_tokens, temperature=0.0),
        block_ids=list(range(16)),
    )
    while sequence.num_output_tokens < num_tokens:
        count = min(chunk, sequence.num_uncomputed_tokens)
        chunks = backend.step([ScheduledSequence(sequence, count)])
        sequence.num_computed_tokens += count
        for piece in chunks:
            sequence.token_ids.extend(piece.token_ids)
    return sequence.token_ids[len(prompt) :]


def tell_likeliest(backend: StepBackend, prompt: list[int]) -> dict[int, float]:
    """Return the log probabilities of the five likeliest tokens after a prompt."""
    sequence = Sequence(
        sequence_id="a",
        token_ids=list(prompt),
        params=SamplingParams(max_tokens=1, temperature=0.0, num_logprobs=5),
        block_ids=list(range(16)),
    )
    [chunk] = backend.step([ScheduledSequence(sequence, len(prompt))])
    assert chunk.logprobs is not None
    return dict(chunk.logprobs[0].top)
