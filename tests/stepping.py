"""Drives a started step backend by hand, one sequence at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.core.generation import TokenChunk
    from mm_orch.optimization.engines.contract import StepBackend

    Step = Callable[[list[ScheduledSequence]], list[TokenChunk]]


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


def greedy(step: Step, prompt: list[int], num_tokens: int, chunk: int = 1000) -> list[int]:
    """Return the likeliest continuation, the prompt taken in chunks."""
    sequence = Sequence(
        sequence_id="a",
        token_ids=list(prompt),
        params=SamplingParams(max_tokens=num_tokens, temperature=0.0),
        block_ids=list(range(16)),
    )
    while sequence.num_output_tokens < num_tokens:
        count = min(chunk, sequence.num_uncomputed_tokens)
        chunks = step([ScheduledSequence(sequence, count)])
        sequence.num_computed_tokens += count
        for piece in chunks:
            sequence.token_ids.extend(piece.token_ids)
    return sequence.token_ids[len(prompt) :]


def greedy_of_transformers(directory: Path, prompt: list[int], num_tokens: int) -> list[int]:
    """Return transformers' own continuation, which ends at the vocabulary's last token."""
    import torch
    from transformers import AutoModelForCausalLM

    reference: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    [whole] = reference.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=num_tokens,
        do_sample=False,
        eos_token_id=VOCAB_SIZE - 1,
        pad_token_id=0,
    )
    continuation: list[int] = whole[len(prompt) :].tolist()
    return continuation


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
