from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.backoff import restart_delay_s


@pytest.mark.parametrize(
    ("num_failures", "delay_s"), [(0, 0), (1, 0.5), (2, 1), (3, 2), (7, 30), (100, 30)]
)
def test_the_delay_doubles_up_to_half_a_minute(num_failures: int, delay_s: float) -> None:
    assert restart_delay_s(num_failures) == delay_s


@given(st.integers(0, 10_000))
def test_another_failure_never_shortens_the_delay(num_failures: int) -> None:
    assert restart_delay_s(num_failures) <= restart_delay_s(num_failures + 1) <= 30
