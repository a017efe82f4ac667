"""How many rows a step may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.engines.pytorch.shapes import round_up_rows


@pytest.mark.parametrize(
    ("num_rows", "rounded"),
    [(1, 1), (32, 32), (33, 36), (64, 64), (65, 72), (128, 128), (129, 144), (2048, 2048)],
)
def test_rows_are_rounded_up(num_rows: int, rounded: int) -> None:
    assert round_up_rows(num_rows) == rounded


@given(num_rows=st.integers(1, 1 << 20))
def test_little_is_wasted_and_a_rounded_number_stays(num_rows: int) -> None:
    rounded = round_up_rows(num_rows)

    assert num_rows <= rounded < num_rows * 9 / 8 + 1
    assert round_up_rows(rounded) == rounded


def test_steps_up_to_two_thousand_tokens_have_few_shapes() -> None:
    assert len({round_up_rows(num_rows) for num_rows in range(1, 2049)}) == 80
