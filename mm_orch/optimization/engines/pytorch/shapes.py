"""Rounds the number of rows of a step up to one of few, so that few shapes are ever compiled."""

from __future__ import annotations

_LARGEST_EXACT = 32
_STEPS_PER_DOUBLING = 8


def round_up_rows(num_rows: int) -> int:
    """Return the smallest allowed number of rows that is at least ``num_rows``.

    oneDNN compiles code for each shape it meets and keeps a thousand of them, some hundred
    megabytes for a small model; with every count of prompt tokens a shape of its own, a worker
    grows for hours. Up to 32 rows (decoding) each count is allowed, above only eight in each
    doubling: 36, 40, ... 64, 72, 80, ... 128, 144, ... The waste is below an eighth.
    """
    if num_rows <= _LARGEST_EXACT:
        return num_rows
    step = (1 << (num_rows - 1).bit_length()) // (2 * _STEPS_PER_DOUBLING)
    return -(-num_rows // step) * step
