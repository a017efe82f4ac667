from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.benchmarking.objective import DEFAULT_OBJECTIVE, Objective
from mm_orch.benchmarking.summary import summarise
from mm_orch.core.errors import InvalidValueError
from tests.unit.benchmarking.test_summary import record, run

# The record of the summaries' tests: first text after 0.5 s, 1 s a token, 2.5 s in all.
MET = ("ttft=500", "itl=1000", "e2e=2500", "ttft=500,itl=1000,e2e=2500")
MISSED = ("ttft=499", "itl=999", "e2e=2499", "ttft=500,itl=1000,e2e=2499")


@pytest.mark.parametrize("text", MET)
def test_every_bound_that_is_kept_is_met(text: str) -> None:
    assert Objective.parse(text).is_met_by(record())


@pytest.mark.parametrize("text", MISSED)
def test_one_bound_that_is_not_kept_is_missed(text: str) -> None:
    assert not Objective.parse(text).is_met_by(record())


def test_a_single_token_has_no_time_between() -> None:
    alone = record(num_output_tokens=1, pieces_s=(1.1,), end_s=1.1)

    assert Objective.parse("itl=1").is_met_by(alone)
    assert not Objective.parse("ttft=99").is_met_by(alone)


def test_a_server_that_states_no_tokens_is_held_to_its_pieces() -> None:
    unstated = record(num_output_tokens=0)

    assert Objective.parse("itl=1000").is_met_by(unstated)
    assert not Objective.parse("itl=999").is_met_by(unstated)


def test_an_answer_without_text_is_as_late_as_its_end() -> None:
    silent = record(pieces_s=(), num_output_tokens=3)

    assert not Objective.parse("ttft=2499").is_met_by(silent)
    assert Objective.parse("ttft=2500").is_met_by(silent)


def test_goodput_counts_all_requests_and_the_whole_time() -> None:
    records = [record(0), record(1, pieces_s=(1.6, 2.0)), record(2, error="oh", pieces_s=())]
    summary = summarise(run(*records), Objective.parse("ttft=500"))

    assert (summary.num_good, summary.good_share) == (1, 1 / 3)
    assert summary.goodput_per_s == 0.25


def test_without_an_objective_nothing_is_said() -> None:
    summary = summarise(run(record()))

    assert summary.num_good is summary.good_share is summary.goodput_per_s is None


bounds = st.floats(min_value=0.1, max_value=1e6)


@given(ttft=bounds, itl=bounds, e2e=bounds, more=st.floats(min_value=0, max_value=1e6))
def test_a_wider_objective_is_met_by_all_that_meet_a_narrower_one(
    ttft: float, itl: float, e2e: float, more: float
) -> None:
    narrow = Objective(ttft_ms=ttft, itl_ms=itl, e2e_ms=e2e)
    wide = Objective(ttft_ms=ttft + more, itl_ms=itl + more, e2e_ms=e2e + more)

    assert wide.is_met_by(record()) or not narrow.is_met_by(record())


@given(ttft=bounds, itl=bounds, e2e=bounds)
def test_bounds_are_read_in_any_order(ttft: float, itl: float, e2e: float) -> None:
    read = Objective.parse(f"e2e={e2e!r}, ttft = {ttft!r},itl={itl!r}")

    assert read == Objective(ttft_ms=ttft, itl_ms=itl, e2e_ms=e2e)


def test_an_objective_says_what_it_bounds() -> None:
    assert Objective.parse("e2e=5000").words == "whole answer within 5000 ms"
    assert DEFAULT_OBJECTIVE.words == "first text within 500 ms, tokens on average every 100 ms"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no bound"),
        ("fast", "'fast' is no bound"),
        ("tpot=5", "'tpot=5' is no bound"),
        ("ttft=500,", "'' is no bound"),
        ("ttft=500,ttft=4", "ttft is given twice"),
        ("ttft=", "ttft='' is no time"),
        ("itl=soon", "itl='soon' is no time"),
        ("itl=0", "itl='0' is no time"),
        ("e2e=-1", "e2e='-1' is no time"),
        ("e2e=nan", "e2e='nan' is no time"),
        ("e2e=inf", "e2e='inf' is no time"),
    ],
)
def test_what_is_no_objective_is_refused_with_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(InvalidValueError, match="give one or more of ttft=MS") as refusal:
        Objective.parse(text)
    assert said in str(refusal.value)
