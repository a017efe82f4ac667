"""What server and worker say to each other: tagged msgpack structs, one message a step."""

from __future__ import annotations

from typing import Literal

import msgspec

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.generation import SamplingParams, SequenceStarted, Task, TokenChunk
from mm_orch.kv_cache.cache import CacheStats
from mm_orch.optimization.engines.contract import EngineFacts, EngineSpec
from mm_orch.workers.placement import Placement

MAX_UNREAD_STEPS = 16
"""Reports that may lie between worker and server before the worker waits."""


STAND_IN = -1
"""In place of a replica's number: a worker beside the model's own."""


class CacheSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How KV blocks are kept for reuse.

    Attributes:
        is_reusing: False keeps nothing.
        policy: what leaves first when memory is short.
    """

    is_reusing: bool = True
    policy: Literal["lru", "fifo"] = "lru"


class Sharing(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's sequences share its steps and its memory: what changes while it runs.

    Attributes:
        batcher: how they share steps.
        cache: what is kept of keys and values.
        max_kv_bytes: most memory for these; 0 for those of one sequence of full length.
    """

    batcher: BatcherSpec
    cache: CacheSpec
    max_kv_bytes: int


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to start one worker; given to the process as a JSON line on its standard input.

    Attributes:
        address: ZeroMQ address that the server has bound.
        key: what the server lets only this worker know; empty where it has a file for an address.
        placement: the cluster that it runs on; None for this machine.
        engine: name of the engine plug-in.
        task: what the model is for: another class of the engine runs each.
        lease_directory: where the workers of a server take turns at the cores; empty for no turns.
        python: interpreter that has the engine's library; empty for this one.
        replica: its number among the workers of the model; STAND_IN for one that is none of them.
        cores: that it may run on; empty for all that the server may.
        gpus: that it computes on, by index; empty where nobody has placed it, or on the CPU.
        visible_gpus: names of those that it may see, as CUDA takes them; None for all that the
            server does.
        engine_spec: what the engine loads.
        batcher: how sequences share its steps.
        cache: what is kept between them.
    """

    address: str
    key: str = ""
    placement: Placement | None = None
    engine: str
    task: Task = "generate"
    lease_directory: str = ""
    python: str = ""
    replica: int = 0
    cores: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    visible_gpus: str | None = None
    engine_spec: EngineSpec
    batcher: BatcherSpec
    cache: CacheSpec

    @property
    def sharing(self) -> Sharing:
        """What of it may change while the worker runs."""
        return Sharing(
            batcher=self.batcher, cache=self.cache, max_kv_bytes=self.engine_spec.max_kv_bytes
        )


class SequenceOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence to continue.

    Attributes:
        token_ids: the prompt, then what another worker has generated of the answer.
        num_prompt_tokens: where the prompt ends; 0 where it is all of them.
        conversation_id: names what it leaves in the cache.
        priority: higher goes first, where our batcher orders them.
        since_s: when a worker was first given it, for its rank: a reading of the monotonic clock,
            which all processes of a machine share; None for now.
    """

    sequence_id: str
    token_ids: tuple[int, ...]
    params: SamplingParams
    num_prompt_tokens: int = 0
    conversation_id: str = ""
    priority: int = 0
    since_s: float | None = None


class TextOrder(msgspec.Struct, frozen=True, array_like=True):
    """One text to embed."""

    text_id: str
    token_ids: tuple[int, ...]


class Embed(msgspec.Struct, frozen=True, tag=True):
    """Server: embed the texts of one request."""

    texts: tuple[TextOrder, ...]


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Server: start these sequences."""

    sequences: tuple[SequenceOrder, ...]


class Abort(msgspec.Struct, frozen=True, tag=True):
    """Server: drop these sequences or texts; ids that have ended already are ignored."""

    sequence_ids: tuple[str, ...]


class ReleaseConversation(msgspec.Struct, frozen=True, tag=True):
    """Server: free the blocks that only this conversation needs."""

    conversation_id: str


class Configure(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Server: share steps and memory like this from the next step on."""

    number: int
    sharing: Sharing


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Server: free everything and exit with 0."""


ToWorker = Submit | Embed | Abort | ReleaseConversation | Configure | Shutdown


class Ready(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Worker: the model is loaded.

    Attributes:
        batches_itself: its engine has a batcher and a cache of its own.
        is_resizable: its KV memory can grow and shrink.
    """

    facts: EngineFacts
    batches_itself: bool = False
    is_resizable: bool = False


class StartFailed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Worker: the model cannot be loaded; the process ends after this."""

    message: str
    remedy: str | None


class SequenceFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence or text that was lost.

    Attributes:
        code: the error's.
        message: what its caller is told.
        stack: where it was raised, for logs and traces alone; empty for a caller's own error.
    """

    sequence_id: str
    code: str
    message: str
    stack: str = ""


class TextVector(msgspec.Struct, frozen=True, array_like=True):
    """A text's vector: its components as little-endian 32-bit numbers."""

    text_id: str
    vector: bytes


class StepDone(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Worker: one step has run.

    Attributes:
        chunks: new tokens of every sequence that got any.
        started: sequences in their first step.
        failures: sequences that were lost.
        vectors: of the texts that were embedded.
        phase: prefill, decode, mixed or embed.
        batch_size: sequences in the step.
        duration_s: what the engine took.
        num_running: sequences with state after the step.
        num_waiting: sequences that wait after the step.
        cache: what the KV cache holds after the step; None where the engine has its own.
        kv_use_ratio: of the engine's own KV memory; None where it does not say.
    """

    chunks: tuple[TokenChunk, ...]
    started: tuple[SequenceStarted, ...]
    failures: tuple[SequenceFailure, ...]
    phase: str
    batch_size: int
    duration_s: float
    num_running: int
    num_waiting: int
    cache: CacheStats | None = None
    kv_use_ratio: float | None = None
    vectors: tuple[TextVector, ...] = ()


class CacheChanged(msgspec.Struct, frozen=True, tag=True):
    """Worker: blocks were released; this is what the KV cache holds now."""

    cache: CacheStats


class Configured(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Worker: this is in force since the last step.

    Attributes:
        number: of the order that it answers.
        refusal: why that could not be carried out, so that nothing has changed; else empty.
        cache: what the KV cache holds; None where the engine has its own.
    """

    number: int
    sharing: Sharing
    refusal: str = ""
    cache: CacheStats | None = None


FromWorker = Ready | StartFailed | StepDone | CacheChanged | Configured

_encoder = msgspec.msgpack.Encoder()
_to_worker_decoder = msgspec.msgpack.Decoder(ToWorker)
_from_worker_decoder = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """Return the message as msgpack."""
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Read what the server sent; raises msgspec.DecodeError on anything else."""
    message: ToWorker = _to_worker_decoder.decode(data)
    return message


def decode_from_worker(data: bytes) -> FromWorker:
    """Read what the worker sent; raises msgspec.DecodeError on anything else."""
    message: FromWorker = _from_worker_decoder.decode(data)
    return message
