"""Cuts a step into runs of the graph, and lays a run out as the graph's inputs.

    padded: a row for each decoding sequence, its keys padded to the longest's
    dense:  one row of all new tokens of some prompts, which sees all their keys through a mask

What is padded or masked away is computed all the same, so sequences share a run where that costs
less than reading the weights once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_orch.optimization.engines.onnx.shape import BLOCK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Batch

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence

# Slots that one padded run may gather in vain, and in all: of the built-in model a slot costs 3
# microseconds, and another run ten milliseconds.
_MAX_WASTED_SLOTS = 4096
_MAX_PADDED_SLOTS = 1 << 16
# The same for pairs of a row and a key in a dense run, of which each head keeps a float.
_MAX_WASTED_PAIRS = 1 << 16
_MAX_PAIRS = 1 << 20
_MIN_ROWS = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """New tokens of a sequence that one run computes: ``num_new`` from position ``begin``."""

    sequence: Sequence
    begin: int
    num_new: int
    completes_prompt: bool

    @property
    def num_keys(self) -> int:
        """Keys that its last token sees, its own included."""
        return self.begin + self.num_new


@dataclass(frozen=True, slots=True)
class Run:
    """Pieces that the graph computes at once; those of one sequence lie in separate runs."""

    pieces: tuple[Piece, ...]
    is_padded: bool

    @property
    def wanted(self) -> list[Sequence]:
        """Sequences that get a token, in the order of the run's logits."""
        return [piece.sequence for piece in self.pieces if piece.completes_prompt]


def plan_runs(batch: Batch[ScheduledSequence]) -> list[Run]:
    """Return runs that compute the batch; a sequence's pieces come in order."""
    decoding: list[Piece] = []
    prompts: list[Piece] = []
    for scheduled in batch:
        pieces = prompts if scheduled.num_new_tokens > 1 else decoding
        pieces.extend(_cut(scheduled))
    dense: list[list[Piece]] = []
    for piece in prompts:
        if dense and _is_worth_masking([*dense[-1], piece]):
            dense[-1].append(piece)
        else:
            dense.append([piece])
    padded: list[list[Piece]] = []
    for piece in sorted(decoding, key=lambda piece: piece.num_keys, reverse=True):
        if padded and _is_worth_padding([*padded[-1], piece]):
            padded[-1].append(piece)
        else:
            padded.append([piece])
    if dense and padded and _is_worth_masking([*dense[-1], *padded[-1]]):
        dense[-1] += padded.pop()
    return [
        *(Run(tuple(pieces), is_padded=True) for pieces in padded),
        *(Run(tuple(pieces), is_padded=False) for pieces in dense),
    ]


def _cut(scheduled: ScheduledSequence) -> Iterable[Piece]:
    """Yield the new tokens in pieces whose scores fit into memory."""
    sequence = scheduled.sequence
    begin = sequence.num_computed_tokens
    end = begin + scheduled.num_new_tokens
    num_rows = max(_MAX_PAIRS // end, _MIN_ROWS)
    while begin < end:
        num_new = min(num_rows, end - begin)
        is_last = begin + num_new == end
        yield Piece(sequence, begin, num_new, is_last and scheduled.completes_prompt)
        begin += num_new


def _is_worth_masking(pieces: list[Piece]) -> bool:
    if len({id(piece.sequence) for piece in pieces}) < len(pieces):
        return False
    num_pairs = sum(piece.num_new for piece in pieces) * sum(piece.num_keys for piece in pieces)
    num_needed = sum(piece.num_new * piece.num_keys for piece in pieces)
    return num_pairs - num_needed <= _MAX_WASTED_PAIRS and num_pairs <= _MAX_PAIRS


def _is_worth_padding(pieces: list[Piece]) -> bool:
    """Of pieces of one token, the longest first."""
    num_slots = len(pieces) * pieces[0].num_keys
    num_needed = sum(piece.num_keys for piece in pieces)
    return num_slots - num_needed <= _MAX_WASTED_SLOTS and num_slots <= _MAX_PADDED_SLOTS


def lay_out(run: Run, window: int | None) -> dict[str, NDArray[Any]]:
    """Return the graph's inputs for a run, by name; see decoder.py for their shapes."""
    pieces = run.pieces
    tables = [_slots_of(piece) for piece in pieces]
    positions = np.concatenate([np.arange(piece.begin, piece.num_keys) for piece in pieces])
    new_slots = np.concatenate(
        [table[piece.begin :] for piece, table in zip(pieces, tables, strict=True)]
    )
    token_ids = np.array(
        [
            token_id
            for piece in pieces
            for token_id in piece.sequence.token_ids[piece.begin : piece.num_keys]
        ]
    )
    last_rows = np.cumsum([piece.num_new for piece in pieces]) - 1
    rows = (len(pieces), 1) if run.is_padded else (1, len(positions))
    key_slots = _pad(tables) if run.is_padded else np.concatenate(tables)[None]
    see = _see_padded if run.is_padded else _see_dense
    inputs = {
        "token_ids": token_ids.reshape(rows),
        "positions": positions.reshape(rows),
        "slots": new_slots.reshape(*rows, 1),
        "key_slots": key_slots,
        "mask": see(pieces, None),
        "wanted_rows": last_rows[[piece.completes_prompt for piece in pieces]],
    }
    if window is not None:
        inputs["window_mask"] = see(pieces, window)
    return inputs


def _slots_of(piece: Piece) -> NDArray[np.int64]:
    """Return the slots of all keys of a piece, [num_keys]."""
    num_blocks = -(-piece.num_keys // BLOCK_TOKENS)
    blocks = np.array(piece.sequence.block_ids[:num_blocks], np.int64)
    slots: NDArray[np.int64] = blocks[:, None] * BLOCK_TOKENS + np.arange(BLOCK_TOKENS)
    return slots.reshape(-1)[: piece.num_keys]


def _pad(tables: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return [num_pieces, most keys]; behind a piece's keys its first slot stands again.

    That slot is there to be masked; one never written, or another's, may hold what is no number.
    """
    padded = np.empty((len(tables), max(map(len, tables))), np.int64)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
        row[len(table) :] = table[0]
    return padded


def _see_padded(pieces: tuple[Piece, ...], window: int | None) -> NDArray[np.float32]:
    """Return 0 for what each piece's token sees, else minus infinity: [num_pieces, 1, 1, keys]."""
    num_keys = np.array([piece.num_keys for piece in pieces])[:, None]
    places = np.arange(num_keys.max())
    sees = places < num_keys
    if window is not None:
        sees &= places >= num_keys - window
    return _as_mask(sees)[:, None, None]


def _see_dense(pieces: tuple[Piece, ...], window: int | None) -> NDArray[np.float32]:
    """Return the same for pieces in one row: [1, 1, rows, keys]."""
    num_rows, num_keys = (
        sum(piece.num_new for piece in pieces),
        sum(piece.num_keys for piece in pieces),
    )
    sees = np.zeros((num_rows, num_keys), np.bool_)
    first_row = first_key = 0
    for piece in pieces:
        last_row, last_key = first_row + piece.num_new, first_key + piece.num_keys
        distance = np.arange(piece.begin, piece.num_keys)[:, None] - np.arange(piece.num_keys)
        own = distance >= 0
        if window is not None:
            own &= distance < window
        sees[first_row:last_row, first_key:last_key] = own
        first_row, first_key = last_row, last_key
    return _as_mask(sees)[None, None]


def _as_mask(sees: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(sees, np.float32(0), np.float32(-np.inf))
