"""Drives a stream engine as a worker does, and says what the model's own code would answer."""

from __future__ import annotations

import dataclasses
import random
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import Sequence
from tests.tiny_models import VOCAB_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mm_orch.core.errors import MuAIError
    from mm_orch.core.generation import FinishReason, TokenLogprob
    from mm_orch.optimization.engines.contract import StreamEngine, StreamReport

# Far beyond any honest step: an engine that is silent for so long is stuck.
_MAX_SILENCE_S = 120


STREAM_ENGINES = ("openvino", "vllm")
MAX_BATCH_SIZE = 4
CONTEXT_LENGTH = 256
PROMPT = list(range(10, 40))
GREEDY = SamplingParams(max_tokens=16, temperature=0.0, ignore_eos=True)


def greedy(**params: object) -> SamplingParams:
    """Return greedy parameters of 16 tokens, changed as told."""
    return msgspec.structs.replace(GREEDY, **params)


def random_prompt(seed: int, num_tokens: int) -> list[int]:
    """Return tokens that no two seeds share beginnings of."""
    return random.Random(seed).choices(range(3, VOCAB_SIZE), k=num_tokens)  # noqa: S311 - a prompt


@dataclass(slots=True)
class Told:
    """Everything that an engine has told of its sequences, by sequence id."""

    tokens: dict[str, list[int]] = field(default_factory=dict)
    logprobs: dict[str, list[TokenLogprob]] = field(default_factory=dict)
    reasons: dict[str, FinishReason] = field(default_factory=dict)
    failures: dict[str, MuAIError] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def add(self, report: StreamReport) -> None:
        for started in report.started:
            assert started.sequence_id not in self.started, "told twice that it has started"
            assert started.waited_s >= 0
            self.started[started.sequence_id] = started.num_cached_tokens
        for sequence_id, error in report.failed:
            self.failures[sequence_id] = error
            self.ended.append(sequence_id)
        for chunk in report.chunks:
            name = chunk.sequence_id
            assert name in self.started, "a token came before the start was told"
            assert name not in self.reasons, "a token came after the last"
            self.tokens.setdefault(name, []).extend(chunk.token_ids)
            if chunk.logprobs is not None:
                assert len(chunk.logprobs) == len(chunk.token_ids)
                self.logprobs.setdefault(name, []).extend(chunk.logprobs)
            if chunk.finish_reason is not None:
                self.reasons[name] = chunk.finish_reason
                self.ended.append(name)


def make(
    name: str, prompt: Iterable[int], params: SamplingParams, outputs: Iterable[int] = ()
) -> Sequence:
    """Make a sequence; with ``outputs`` it was begun elsewhere."""
    sequence = Sequence(sequence_id=name, token_ids=list(prompt), params=params)
    sequence.token_ids.extend(outputs)
    return sequence


def advance(engine: StreamEngine, told: Told | None = None) -> StreamReport:
    """Wait as the worker does, then take one report."""
    if engine.wake_fd is not None:
        readable, _, _ = select.select([engine.wake_fd], [], [], _MAX_SILENCE_S)
        assert readable, "the engine has work and is silent"
    report = engine.advance()
    if told is not None:
        told.add(report)
    return report


def run(
    engine: StreamEngine,
    sequences: Iterable[Sequence] = (),
    until: Callable[[Told], bool] | None = None,
    told: Told | None = None,
) -> Told:
    """Submit the sequences and go on until ``until`` or, without it, nothing is unfinished."""
    told = told or Told()
    for sequence in sequences:
        engine.submit(sequence)
    while engine.has_work and not (until is not None and until(told)):
        advance(engine, told)
    return told


class ModelReference:
    """The model computed anew for every token, by transformers in fp32 on one sequence."""

    def __init__(self, directory: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self._model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)

    def generate(self, sequence: Sequence) -> tuple[list[int], list[TokenLogprob]]:
        """Return the sequence's next tokens, with log probabilities where asked for.

        Ends as the server expects of an engine: no stop token is among the tokens.
        """
        import torch

        from mm_orch.optimization.engines.sampling import sample

        params = sequence.params
        sequence = dataclasses.replace(sequence, token_ids=list(sequence.token_ids))
        logprobs: list[TokenLogprob] = []
        tokens: list[int] = []
        while sequence.num_output_tokens < params.max_tokens:
            with torch.inference_mode():
                logits = self._model(torch.tensor([sequence.token_ids])).logits[0, -1:]
            [chunk] = sample(logits.float(), [sequence])
            [token_id] = chunk.token_ids
            if token_id in params.stop_token_ids and not params.ignore_eos:
                break
            sequence.token_ids.append(token_id)
            tokens.append(token_id)
            logprobs.extend(chunk.logprobs or ())
        return tokens, logprobs
