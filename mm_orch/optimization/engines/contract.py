"""What an engine must offer, and the objects that travel between the batcher and a step backend.

A *step backend* computes one step of a batch at a time; the batcher above it decides what the
step holds. Life of a backend: ``probe`` (any process, no heavy import), ``start`` once in the
worker, ``step`` and ``release`` many times, ``stop``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Batch

    from mm_orch.core.generation import SamplingParams, TokenChunk


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an engine can run here; if not, why, and what would change that."""

    engine: str
    is_available: bool
    reason: str = ""
    remedy: str = ""


class EngineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine needs to load one model.

    Attributes:
        model: the model's configured name.
        directory: HF-layout directory with config, tokeniser and safetensors.
        context_length: most tokens of prompt and output together.
        eos_token_ids: tokens that end a sequence.
        dtype: auto, fp32, bf16 or fp16.
        device: auto, cpu, cuda or cuda:N.
        num_threads: size of the compute pool.
        trust_remote_code: allow model code from the directory to run.
    """

    model: str
    directory: str
    context_length: int
    eos_token_ids: tuple[int, ...]
    dtype: str = "auto"
    device: str = "auto"
    num_threads: int = 1
    trust_remote_code: bool = False


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine turned out to be once it has started."""

    engine: str
    dtype: str
    device: str
    context_length: int


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend holds now: sequences with state, and bytes of KV memory for them."""

    num_sequences: int
    kv_bytes: int


@dataclass(slots=True, kw_only=True)
class Sequence:
    """One continuation in the making; the batcher owns it, the backend reads it.

    ``token_ids`` holds the prompt, then everything generated. The backend has computed the first
    ``num_computed_tokens`` of them; the batcher moves that mark after each step.
    """

    sequence_id: str
    token_ids: list[int]
    params: SamplingParams
    num_prompt_tokens: int = field(init=False)
    num_computed_tokens: int = 0

    def __post_init__(self) -> None:
        self.num_prompt_tokens = len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens whose keys and values are still to be computed; 1 while decoding."""
        return len(self.token_ids) - self.num_computed_tokens


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """A sequence and how many of its uncomputed tokens the next step takes, at least 1."""

    sequence: Sequence
    num_new_tokens: int

    @property
    def completes_prompt(self) -> bool:
        """Whether the step reaches the sequence's last token, and so yields the next one."""
        return self.num_new_tokens == self.sequence.num_uncomputed_tokens


class StepBackend(Protocol):
    """An engine that advances a batch by one step."""

    name: ClassVar[str]

    @classmethod
    def probe(cls) -> Availability:
        """Say whether this engine can run here, without importing its library."""

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the model; a second call returns the same facts.

        Raises:
            EngineStartError: with the reason and the remedy.
        """

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Compute each entry's new tokens; return one token for each that completes its prompt.

        Chunks carry no finish reason: the batcher decides when a sequence ends. A stop token is
        returned like any other.

        Raises:
            EngineError: nothing of the batch was advanced; the sequences are to be released.
        """

    def release(self, sequence_ids: Iterable[str]) -> None:
        """Free what is kept for these sequences; unknown ids are ignored."""

    def stats(self) -> EngineStats:
        """What is held now."""

    def stop(self) -> None:
        """Free everything; safe twice, and after a failure."""
