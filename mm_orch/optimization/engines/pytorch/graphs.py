"""Decoding steps as CUDA graphs: recorded once for each size, then replayed in one launch.

A decoder of thirty layers launches hundreds of kernels a step, each of which costs the CPU more
than it costs a GPU to run it with a few sequences. A graph is fixed in shapes and addresses, so
steps are copied into tensors of their own and rounded up:

    rows   1 2 3 4 5 6 7 8 16 24 ... 64     the first sequence again in those that are left
    keys   64 128 256 ... 4096              masked behind each sequence's own

No GPU was at hand: buffers, sizes and logic are tested on the CPU, ``GpuCapture`` is untested.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from mm_orch.optimization.engines.pytorch.packed import (
    MAX_PADDED_KEYS,
    PackedStep,
    PaddedTable,
    pad_slots,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory

logger = logging.getLogger(__name__)

_MAX_ROWS = 64
_MIN_KEYS, _MAX_KEYS = 64, 4096
_ROWS_STEP = 8


class Capture(Protocol):
    """Records work on tensors so that it can be done again."""

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        """Return what does the work again, and the tensor that holds its result after that."""


class GpuCapture:
    """Records CUDA graphs; all share one pool of memory, so that many sizes cost little."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        """See Capture. The work runs before it is recorded: libraries allocate in their first."""
        # Streams and graphs are of the current device, whatever their tensors are on.
        with torch.cuda.device(self._device):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                work()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                result = work()
            self._pool = self._pool or graph.pool()

        def replay() -> None:
            with torch.cuda.device(self._device):
                graph.replay()

        return replay, result


@dataclass(frozen=True, slots=True)
class _Recording:
    step: PackedStep
    table: PaddedTable
    replay: Callable[[], Any]
    logits: torch.Tensor


class GraphedDecoder:
    """Computes logits of a packed step; replays those in which every row decodes.

    A recording keeps the addresses of the memory that it was made with, so all calls must give
    the same one; where that has changed its size, steps are recorded anew.

    Args:
        decoder: computes steps, recorded or not; what it does must not depend on values.
        capture: records it.
    """

    def __init__(
        self, decoder: Callable[[PackedStep, KVMemory], torch.Tensor], capture: Capture
    ) -> None:
        self._decoder = decoder
        self._capture = capture
        # None: a size that could not be recorded.
        self._recordings: dict[tuple[int, int], _Recording | None] = {}
        self._recorded_keys: tuple[torch.Tensor, ...] | None = None

    def __call__(self, step: PackedStep, memory: KVMemory) -> torch.Tensor:
        """Return logits of the wanted rows, [num_wanted, vocab_size]; fills the step's slots.

        They lie in memory that the next call overwrites.
        """
        size = find_size(step)
        if size is None:
            return self._decoder(step, memory)
        if self._recorded_keys is not memory.keys:
            self._recordings.clear()
            self._recorded_keys = memory.keys
        if size not in self._recordings:
            self._recordings[size] = self._try_to_record(step, size, memory)
        recording = self._recordings[size]
        if recording is None:
            return self._decoder(step, memory)
        _fill(recording.step, recording.table, step)
        recording.replay()
        return recording.logits[: step.num_tokens]

    def _try_to_record(
        self, step: PackedStep, size: tuple[int, int], memory: KVMemory
    ) -> _Recording | None:
        try:
            return self._record(step, size, memory)
        except RuntimeError as error:
            # Out of memory, most likely: such steps are computed kernel by kernel from now on.
            logger.warning("steps of %d rows and %d keys are not recorded: %s", *size, error)
            return None

    def _record(self, step: PackedStep, size: tuple[int, int], memory: KVMemory) -> _Recording:
        num_rows, num_keys = size
        device = step.token_ids.device

        def numbers(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.long, device=device)

        rows = torch.arange(num_rows, device=device)
        table = PaddedTable(rows, numbers(num_rows, num_keys), numbers(num_rows))
        static = PackedStep(
            token_ids=numbers(num_rows),
            positions=numbers(num_rows),
            slots=numbers(num_rows),
            segments=(),
            wanted_rows=rows,
            given_table=table,
        )
        # Recording runs the work, which writes: into this step's slots, what it will write anyway.
        _fill(static, table, step)
        replay, logits = self._capture.record(lambda: self._decoder(static, memory))
        return _Recording(static, table, replay, logits)


def find_size(step: PackedStep) -> tuple[int, int] | None:
    """Return rows and keys of the recording for a step, or None where it is not replayed."""
    num_tokens = step.num_tokens
    if step.prompts or len(step.wanted_rows) != num_tokens or num_tokens > _MAX_ROWS:
        return None
    max_keys = max(segment.num_keys for segment in step.segments)
    is_small = num_tokens <= _ROWS_STEP
    num_rows = num_tokens if is_small else -(-num_tokens // _ROWS_STEP) * _ROWS_STEP
    num_keys = max(_MIN_KEYS, 1 << (max_keys - 1).bit_length())
    if num_keys > _MAX_KEYS or num_rows * num_keys > MAX_PADDED_KEYS:
        return None
    return num_rows, num_keys


def _fill(static: PackedStep, table: PaddedTable, step: PackedStep) -> None:
    """Copy a step into the recorded tensors; rows that are left repeat the first."""
    num_rows, max_keys = table.slots.shape
    num_tokens = step.num_tokens
    source = torch.arange(num_rows, device=step.token_ids.device)
    source = torch.where(source < num_tokens, source, 0)
    for target, values in (
        (static.token_ids, step.token_ids),
        (static.positions, step.positions),
        (static.slots, step.slots),
    ):
        target.copy_(values[source])
    slots, num_keys = pad_slots(step.segments, num_rows, max_keys)
    table.slots.copy_(slots)
    table.num_keys.copy_(num_keys)
