"""A step as tensors: the new tokens of all its sequences in one row, and where their KV lies.

tokens    | a a a a | b | c c | - |   num_rows rows; the last only rounds the shape up
segments  [0 ..... 4) [4) [5..7)       a prefills, b decodes, c takes a chunk
slots       8 9 10 11  35  64 65  -1   where each new token's keys and values go
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from mm_orch.optimization.engines.pytorch.shapes import round_up_rows

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    from mm_orch.optimization.engines.contract import ScheduledSequence

BLOCK_TOKENS = 16
# Of all sequences in one padded call: 64 of 2,048 tokens.
MAX_PADDED_KEYS = 1 << 17


@dataclass(slots=True)
class Segment:
    """One sequence's share of the packed row.

    Attributes:
        begin: its first row.
        num_new_tokens: its rows.
        num_keys: keys it attends to, those of its new tokens included.
        block_ids: its blocks.
        key_slots: [num_keys], the slots of its keys in order; made when first asked for.
    """

    begin: int
    num_new_tokens: int
    num_keys: int
    block_ids: list[int]
    device: torch.device
    _key_slots: torch.Tensor | None = None

    @property
    def key_slots(self) -> torch.Tensor:
        """Slots of all its keys, [num_keys]."""
        if self._key_slots is None:
            self._key_slots = slots_of(self.block_ids, self.num_keys, self.device)
        return self._key_slots


@dataclass(frozen=True)
class PackedStep:
    """The tensors of one step.

    Attributes:
        token_ids: [num_rows].
        positions: [num_rows].
        slots: [num_rows], -1 where the row only rounds the shape up.
        segments: in the order of rows.
        wanted_rows: [number of completed prompts], rows whose logits are asked for.
        given_table: of a step that is replayed: every row holds one token, segments are not told.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    segments: tuple[Segment, ...]
    wanted_rows: torch.Tensor
    given_table: PaddedTable | None = None

    @property
    def num_tokens(self) -> int:
        """Rows that hold tokens."""
        if not self.segments:
            return len(self.token_ids)
        last = self.segments[-1]
        return last.begin + last.num_new_tokens

    @cached_property
    def token_slots(self) -> torch.Tensor:
        """Slots of the rows that hold tokens, [num_tokens]."""
        return self.slots[: self.num_tokens]

    @cached_property
    def prompts(self) -> tuple[Segment, ...]:
        """Segments of more than one token."""
        return tuple(s for s in self.segments if s.num_new_tokens > 1)

    @cached_property
    def prompt_table(self) -> PromptTable:
        """The same as tables for one call."""
        rows: list[tuple[int, int, int, int]] = []
        block_ids: list[int] = []
        for segment in self.prompts:
            sizes = (segment.begin, segment.num_new_tokens, segment.num_keys, len(block_ids))
            rows.append(sizes)
            block_ids += segment.block_ids
        return PromptTable(rows=torch.tensor(rows), block_ids=torch.tensor(block_ids))

    @cached_property
    def padded_decoding(self) -> PaddedTable | None:
        """The segments of one token as one table on the step's device.

        None without any, and where one of them is so long that padding the others would cost more
        memory than the call is worth.
        """
        if self.given_table is not None:
            return self.given_table
        segments = [s for s in self.segments if s.num_new_tokens == 1]
        if not segments:
            return None
        max_keys = max(s.num_keys for s in segments)
        if len(segments) * max_keys > MAX_PADDED_KEYS:
            return None
        rows = torch.tensor([s.begin for s in segments], device=self.slots.device)
        slots, num_keys = pad_slots(segments, len(segments), max_keys)
        return PaddedTable(rows, slots.to(self.slots.device), num_keys.to(self.slots.device))

    @cached_property
    def decoding(self) -> DecodingTable | None:
        """The segments of one token as tables for one call, or None when there are none."""
        segments = [s for s in self.segments if s.num_new_tokens == 1]
        if not segments:
            return None
        starts: list[int] = []
        block_ids: list[int] = []
        for segment in segments:
            starts.append(len(block_ids))
            block_ids += segment.block_ids
        return DecodingTable(
            rows=torch.tensor([s.begin for s in segments]),
            num_keys=torch.tensor([s.num_keys for s in segments]),
            block_starts=torch.tensor(starts),
            block_ids=torch.tensor(block_ids),
        )


@dataclass(frozen=True, slots=True)
class PromptTable:
    """Segments of several tokens: [num_prompts, 4] of first row, tokens, keys, place of blocks."""

    rows: torch.Tensor
    block_ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class DecodingTable:
    """Segments of one token: row and number of keys of each, and its blocks' place in the list."""

    rows: torch.Tensor
    num_keys: torch.Tensor
    block_starts: torch.Tensor
    block_ids: torch.Tensor


@dataclass(frozen=True, slots=True)
class PaddedTable:
    """Segments of one token for one batched call.

    Attributes:
        rows: [num_segments].
        slots: [num_segments, max_keys]; behind a segment's keys its first slot again, which is
            there to be masked: memory never written may hold anything.
        num_keys: [num_segments].
    """

    rows: torch.Tensor
    slots: torch.Tensor
    num_keys: torch.Tensor


def pad_slots(
    segments: Batch[Segment], num_rows: int, max_keys: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return slots [num_rows, max_keys] and numbers of keys [num_rows] of segments, on the CPU.

    Rows beyond the segments are the first one again.
    """
    within = torch.arange(BLOCK_TOKENS)
    places = torch.arange(max_keys)
    rows = [segments[index if index < len(segments) else 0] for index in range(num_rows)]
    num_keys = torch.tensor([segment.num_keys for segment in rows])
    slots = torch.empty(num_rows, max_keys, dtype=torch.long)
    for row, segment in enumerate(rows):
        own = (torch.tensor(segment.block_ids)[:, None] * BLOCK_TOKENS + within).flatten()
        slots[row] = own[torch.where(places < segment.num_keys, places, 0)]
    return slots, num_keys


def pack(
    batch: Batch[ScheduledSequence], device: torch.device, *, is_rounded: bool = False
) -> PackedStep:
    """Lay out the batch's new tokens; ``is_rounded``: in one of few numbers of rows."""
    token_ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    segments: list[Segment] = []
    wanted: list[int] = []
    for scheduled in batch:
        sequence, num_new_tokens = scheduled.sequence, scheduled.num_new_tokens
        begin = sequence.num_computed_tokens
        end = begin + num_new_tokens
        segments.append(Segment(len(token_ids), num_new_tokens, end, sequence.block_ids, device))
        token_ids += sequence.token_ids[begin:end]
        positions += range(begin, end)
        slots += (
            sequence.block_ids[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
            for position in range(begin, end)
        )
        if scheduled.completes_prompt:
            wanted.append(len(token_ids) - 1)
    num_missing = round_up_rows(len(token_ids)) - len(token_ids) if is_rounded else 0
    padding = [0] * num_missing
    return PackedStep(
        token_ids=torch.tensor(token_ids + padding, device=device),
        positions=torch.tensor(positions + padding, device=device),
        slots=torch.tensor(slots + [-1] * num_missing, device=device),
        segments=tuple(segments),
        wanted_rows=torch.tensor(wanted, dtype=torch.long, device=device),
    )


def slots_of(block_ids: list[int], num_tokens: int, device: torch.device) -> torch.Tensor:
    """Return the slots of the first tokens that these blocks hold, [num_tokens]."""
    blocks = torch.tensor(block_ids, device=device) * BLOCK_TOKENS
    within = torch.arange(BLOCK_TOKENS, device=device)
    return (blocks[:, None] + within).flatten()[:num_tokens]
