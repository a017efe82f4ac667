from __future__ import annotations

import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.contract import Availability
from mm_orch.optimization.ladder import Candidate, EngineLadder


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def probes(*engines: str, absent: str = "") -> list[Availability]:
    return [
        Availability(
            engine=engine,
            is_available=engine != absent,
            reason="not installed",
            remedy=f"pip {engine}",
        )
        for engine in engines
    ]


def test_the_first_that_can_run_is_chosen() -> None:
    ladder = EngineLadder("abc", Clock())

    assert ladder.choose(probes("a", "b", "c")) == Candidate("a", 0)
    assert ladder.choose(probes("a", "b", "c", absent="a")) == Candidate("b", 0)


def test_with_none_left_every_reason_and_remedy_is_told() -> None:
    with pytest.raises(EngineStartError, match=r"a: not installed \(pip a\)"):
        EngineLadder("a", Clock()).choose(probes("a", absent="a"))


def test_an_engine_with_an_open_circuit_is_passed_over() -> None:
    ladder = EngineLadder("ab", Clock())
    ladder.circuit_by_engine["a"].trip("it crashed")

    assert ladder.choose(probes("a", "b")) == Candidate("b", 0)


def test_with_all_circuits_open_the_one_that_opens_first_is_waited_for() -> None:
    ladder = EngineLadder("ab", Clock())
    ladder.circuit_by_engine["a"].trip("slow to fail", cost_s=10)
    ladder.circuit_by_engine["b"].trip("it crashed")

    assert ladder.choose(probes("a", "b")) == Candidate("b", 0.5)


def test_without_fallback_the_first_is_waited_for() -> None:
    ladder = EngineLadder("ab", Clock(), is_falling_back=False)
    ladder.circuit_by_engine["a"].trip("it crashed")

    assert ladder.choose(probes("a", "b")) == Candidate("a", 0.5)
    assert ladder.find_better("b") is None


def test_only_what_failed_is_gone_back_to() -> None:
    ladder = EngineLadder("abcd", Clock())
    assert ladder.find_better("c") is None

    ladder.circuit_by_engine["b"].trip("it crashed")
    ladder.circuit_by_engine["d"].trip("it is worse anyway")

    assert ladder.find_better("c") == Candidate("b", 0.5)
    assert ladder.find_better("a") is None


def test_a_fallback_names_the_engine_that_was_wanted_and_what_ails_it() -> None:
    ladder = EngineLadder("abc", Clock())
    assert ladder.describe_fallback("b") is None

    ladder.circuit_by_engine["a"].trip("it crashed")

    assert ladder.describe_fallback("b") == ("a", "it crashed")
    assert ladder.describe_fallback("a") is None


@pytest.mark.parametrize(("is_falling_back", "chosen"), [(True, "bca"), (False, "aaa")])
def test_an_engine_without_its_device_comes_last_unless_it_is_the_only_one_that_may(
    is_falling_back: bool,  # noqa: FBT001 - by parametrize
    chosen: str,
) -> None:
    ladder = EngineLadder("abc", Clock(), is_falling_back=is_falling_back)
    ladder.put_last("a")
    found = []
    for _ in range(3):
        found.append(ladder.choose(probes("a", "b", "c")).engine)
        ladder.circuit_by_engine[found[-1]].trip("it failed")

    assert "".join(found) == chosen
