from __future__ import annotations

import pytest

from mm_orch.cli.words import name_duration, name_latency, name_number, name_ratio, name_size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (61.5, "1 min 1 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 7199, "3 d 1 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert name_duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.0012, "1.2 ms"), (0.0412, "41 ms"), (1, "1.0 s"), (70.34, "70.3 s")],
)
def test_a_latency_has_the_unit_that_suits_it(seconds: float | None, words: str) -> None:
    assert name_latency(seconds) == words


@pytest.mark.parametrize(
    ("num_bytes", "words"), [(None, "-"), (0, "0 MB"), (26_400_000, "26 MB"), (10**9, "1.0 GB")]
)
def test_a_size_has_the_unit_that_suits_it(num_bytes: int | None, words: str) -> None:
    assert name_size(num_bytes) == words


def test_what_was_not_measured_is_no_zero() -> None:
    assert (name_ratio(None), name_number(None)) == ("-", "-")
    assert (name_ratio(0), name_number(0)) == ("0%", "0.0")
    assert (name_ratio(0.55), name_number(1600.4)) == ("55%", "1600")
