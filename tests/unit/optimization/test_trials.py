from __future__ import annotations

import pytest

from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.trials import Trial, rank_by_speed, rank_by_start

TRIALS = [
    Trial(engine="a", load_s=30.0, tokens_per_s=200.0),
    Trial(engine="b", load_s=2.0, tokens_per_s=100.0),
    Trial(engine="c", reason="it does not want to"),
]


@pytest.mark.parametrize(
    ("engines", "by_speed", "by_start"),
    [
        ("ab", "ab", "ba"),
        ("cba", "abc", "bac"),
        ("cdb", "bdc", "bdc"),
        ("ed", "ed", "ed"),
    ],
)
def test_what_worked_goes_before_what_is_unknown_and_that_before_what_failed(
    engines: str, by_speed: str, by_start: str
) -> None:
    assert rank_by_speed(engines, TRIALS) == list(by_speed)
    assert rank_by_start(engines, TRIALS) == list(by_start)


def test_a_ladder_in_another_order_keeps_what_its_engines_have_done() -> None:
    ladder = EngineLadder("abc", lambda: 0.0)
    ladder.circuit_by_engine["b"].trip("it crashed")

    ladder.order("bca")

    assert list(ladder.circuit_by_engine) == ["b", "c", "a"]
    assert ladder.describe_fallback("c") == ("b", "it crashed")
