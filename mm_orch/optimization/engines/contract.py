"""What an engine must offer, and the objects that travel between a worker and its engine.

A *step backend* computes one step of a batch at a time; the batcher above it decides what the
step holds and which blocks of KV memory each sequence has. A *stream engine* has a batcher and a
cache of its own: it takes sequences and reports their tokens. Life of either: ``probe`` (any
process, no heavy import), ``start`` once in the worker, work, ``stop``. One that computes on GPUs
where it sees some says so by ``takes_gpus = True`` in its class: it is then placed on them, and
finds ``tensor_parallel_size`` or ``tensor_parallel`` of its settings to be what it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Sequence as Batch

    import numpy as np
    from numpy.typing import NDArray

    from mm_orch.core.errors import MuAIError
    from mm_orch.core.generation import SamplingParams, SequenceStarted, TokenChunk


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
        dtype: auto, fp32, bf16, fp16, int8 or int4.
        device: auto, cpu, cuda or cuda:N.
        num_threads: size of the compute pool.
        cache_directory: where an engine may keep what it compiled.
        max_kv_bytes: most memory for keys and values; 0 for that of one sequence of full length.
        trust_remote_code: allow model code from the directory to run.
        gguf_file: the GGUF in the directory that its other files were made of, or None.
        max_batch_size: most sequences that run at once.
        max_batch_tokens: most prompt tokens of one step.
        is_reusing: keep keys and values for prompts that begin alike.
        settings: the engine's own section of the configuration, by option name.
    """

    model: str
    directory: str
    context_length: int
    eos_token_ids: tuple[int, ...]
    dtype: str = "auto"
    device: str = "auto"
    num_threads: int = 1
    cache_directory: str
    max_kv_bytes: int = 0
    trust_remote_code: bool = False
    gguf_file: str | None = None
    max_batch_size: int = 32
    max_batch_tokens: int = 2048
    is_reusing: bool = True
    settings: dict[str, Any] = {}


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine turned out to be once it has started.

    Attributes:
        engine: its name.
        dtype: number format of weights and computing.
        device: where it computes.
        context_length: most tokens of a sequence.
        kv_block_tokens: tokens whose keys and values share a block.
        kv_block_bytes: memory of a block, all layers together.
        num_kv_blocks: blocks that the engine has; their ids count from 0. A stream engine that
            does not say has 0, and so has an embedding backend.
        has_fixed_steps: its steps hold no more sequences and prompt tokens than it was started for.
        dimensions: of an embedding backend's vectors.
        resumes_exactly: a sequence that was begun elsewhere goes on here as if it had begun here:
            penalties and draws see where the prompt ended. Every step backend does.
        unsupported: what requests may not ask of it, by field of GenerationOptions.
        guides: which it keeps answers to: all, as every step backend does (see Sequence.mask),
            those that are plain JSON (models.plain_json), or none.
        max_logprobs: most alternatives beside the chosen token's log probability; None for any
            number.
    """

    engine: str
    dtype: str
    device: str
    context_length: int
    kv_block_tokens: int = 0
    kv_block_bytes: int = 0
    num_kv_blocks: int = 0
    has_fixed_steps: bool = False
    dimensions: int = 0
    resumes_exactly: bool = True
    unsupported: tuple[str, ...] = ()
    guides: Literal["all", "plain", "none"] = "all"
    max_logprobs: int | None = None


@dataclass(slots=True, kw_only=True)
class Sequence:
    """One continuation in the making; the batcher owns it, the engine reads it.

    ``token_ids`` holds the prompt, then everything generated. Keys and values of the first
    ``num_computed_tokens`` of them lie in the blocks: those of token ``p`` in slot
    ``p % kv_block_tokens`` of block ``block_ids[p // kv_block_tokens]``. The batcher moves the
    mark after each step, and gives blocks before one.

    Attributes:
        num_prompt_tokens: all of ``token_ids`` unless it was begun elsewhere; the rest is output.
        priority: higher goes first; see core.priority.
        arrival: number in order of arrival, given by the batcher.
        since_s: when it began to wait, on the batcher's clock.
        conversation_id: of the conversation that it is a turn of; empty for none.
        is_released: nothing of it is to be kept that only it needs.
        mask: one bit a token, lowest first: those that may come next, and no token beyond them.
            The batcher sets it before each step that yields a token; None allows all.
    """

    sequence_id: str
    token_ids: list[int]
    params: SamplingParams
    priority: int = 0
    arrival: int = 0
    since_s: float = 0.0
    conversation_id: str = ""
    is_released: bool = False
    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    block_ids: list[int] = field(default_factory=list)
    mask: NDArray[np.uint32] | None = None

    def __post_init__(self) -> None:
        self.num_prompt_tokens = self.num_prompt_tokens or len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens whose keys and values are still to be computed; 1 while decoding."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def is_decoding(self) -> bool:
        """Whether a step computes its newest generated token and nothing else."""
        return self.num_output_tokens > 0 and self.num_uncomputed_tokens == 1


@dataclass(frozen=True, slots=True)
class ScheduledSequence:
    """A sequence and how many of its uncomputed tokens the next step takes, at least 1."""

    sequence: Sequence
    num_new_tokens: int

    @property
    def completes_prompt(self) -> bool:
        """Whether the step reaches the sequence's last token, and so yields the next one."""
        return self.num_new_tokens == self.sequence.num_uncomputed_tokens


@runtime_checkable
class StepBackend(Protocol):
    """An engine that advances a batch by one step."""

    name: ClassVar[str]

    @classmethod
    def probe(cls) -> Availability:
        """Say whether this engine can run here, without importing its library."""

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the model and set KV memory aside; a second call returns the same facts.

        Raises:
            EngineStartError: with the reason and the remedy; also when ``max_kv_bytes`` is too
                small for one sequence of full length.
        """

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Compute each entry's new tokens; return one token for each that completes its prompt.

        Chunks carry no finish reason: the batcher decides when a sequence ends. A stop token is
        returned like any other. No token is returned that the sequence's mask does not allow.
        Between steps a backend keeps nothing of a sequence but what lies in its blocks: those may
        be another's in the next step, or shared.

        Raises:
            EngineError: nothing of the batch was advanced, and the same step may be tried again.
        """

    def stop(self) -> None:
        """Free everything; safe twice, and after a failure."""


@runtime_checkable
class ResizableBackend(StepBackend, Protocol):
    """A step backend whose KV memory can grow and shrink between two steps."""

    def count_kv_blocks(self, max_kv_bytes: int) -> int:
        """Return how many blocks it would have if it were started with this bound.

        Raises:
            EngineStartError: they do not hold one sequence of full length.
        """

    def move_kv(self, moves: Mapping[int, int]) -> None:
        """Copy what lies in some blocks into others, given by their old ids; none is both."""

    def resize_kv(self, num_blocks: int, *, num_kept: int) -> None:
        """Take or give back memory, so that there are this many blocks.

        What lies in the first ``num_kept`` stays; that of the others is lost.

        Raises:
            EngineOutOfMemoryError: there is no memory for them; there are as many as before.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """What a stream engine has to tell since it was asked last.

    Attributes:
        chunks: new tokens, with the finish reason on a sequence's last; a stop token that ended
            one is not among them.
        started: sequences in their first step.
        failed: sequences that are lost, with the error.
        batch_size: sequences that got tokens.
        duration_s: what the step took, where the engine has steps; else since the last report.
        num_running: sequences with KV memory.
        num_waiting: sequences that wait for a place.
        kv_use_ratio: share of the KV memory in use, 0 to 1; None where the engine does not say.
    """

    chunks: list[TokenChunk] = field(default_factory=list)
    started: list[SequenceStarted] = field(default_factory=list)
    failed: list[tuple[str, MuAIError]] = field(default_factory=list)
    batch_size: int = 0
    duration_s: float = 0.0
    num_running: int = 0
    num_waiting: int = 0
    kv_use_ratio: float | None = None


@runtime_checkable
class StreamEngine(Protocol):
    """An engine that batches by itself. Everything is called from one thread of the worker."""

    name: ClassVar[str]

    @classmethod
    def probe(cls) -> Availability:
        """Say whether this engine can run here, without importing its library."""

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the model; a second call returns the same facts.

        Raises:
            EngineStartError: with the reason and the remedy.
        """

    def submit(self, sequence: Sequence) -> None:
        """Take a sequence; what is wrong with it is told in a later report.

        One that has output tokens already goes on after them: its bounds on tokens count those.
        """

    def abort(self, sequence_ids: Iterable[str]) -> None:
        """Drop these sequences and free their memory; ids that have ended are ignored."""

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""

    @property
    def wake_fd(self) -> int | None:
        """A descriptor that is readable when :meth:`advance` has news; None: it has to be called.

        With None, ``advance`` computes a step whenever there is work.
        """

    def advance(self) -> StreamReport:
        """Report what is new; compute a step first where ``wake_fd`` is None.

        Raises:
            EngineCrashedError: everything is lost, and so is the engine: the worker ends.
            EngineError: everything that runs is lost; the engine takes new sequences.
        """

    def stop(self) -> None:
        """Free everything; safe twice, and after a failure."""


def count_kv_blocks(spec: EngineSpec, *, block_tokens: int, block_bytes: int) -> int:
    """Return how many blocks ``spec.max_kv_bytes`` pays for.

    Raises:
        EngineStartError: they do not hold one sequence of full length.
    """
    num_needed = -(-spec.context_length // block_tokens)
    if not spec.max_kv_bytes:
        return num_needed
    num_blocks = spec.max_kv_bytes // block_bytes
    if num_blocks < num_needed:
        needed_mb = -(-num_needed * block_bytes // 2**20)
        raise EngineStartError(
            f"optimization.cache.max_memory_mb is {spec.max_kv_bytes // 2**20}, but one sequence of"
            f" {spec.context_length} tokens of {spec.model} takes {needed_mb} MiB.",
            remedy=f"Set optimization.cache.max_memory_mb to {needed_mb} or more (0 means just"
            f" that), or lower models.{spec.model}.context_length.",
        )
    return num_blocks
