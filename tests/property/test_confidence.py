"""What holds of confidence, whatever the tokens, answers and outcomes are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.consciousness.agreement import find_similarity, hold_vote
from mm_orch.consciousness.calibration import to_share
from mm_orch.consciousness.calibration_error import (
    brier_score,
    expected_calibration_error,
    make_reliability_table,
)
from mm_orch.consciousness.confidence import measure_tokens
from mm_orch.consciousness.fitting import fit_curve
from mm_orch.consciousness.gauge import Gauge
from mm_orch.consciousness.short_answers import find_gist, find_option, split_words

LOGPROBS = st.lists(st.floats(), min_size=1, max_size=40)
TEXTS = st.text(max_size=60)
WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=12)
JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(LOGPROBS)
def test_confidence_is_a_probability_whatever_an_engine_tells(logprobs: list[float]) -> None:
    figures, confidence = measure_tokens(logprobs), Gauge().of_answer("any", logprobs)

    assert figures is not None
    assert confidence is not None
    assert 0 <= confidence.value <= 1
    assert figures.total <= figures.least <= figures.mean + 1e-9 <= 1e-9


@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS)
def test_a_vote_names_an_answer_whose_share_is_at_least_its_own(
    answers: list[str], question: str
) -> None:
    vote = hold_vote(answers, question)

    assert 0 <= vote.winner < vote.num_answers == len(answers)
    assert 1 / len(answers) - 1e-9 <= vote.share <= 1
    assert 1 <= vote.num_agreeing <= len(answers)


@given(st.lists(st.sampled_from(["Rome", "Paris", "Oslo"]), min_size=1, max_size=9), st.randoms())
def test_the_order_of_answers_moves_no_share(answers: list[str], dice: object) -> None:
    shuffled = list(answers)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis's own kind of Random

    assert hold_vote(answers).share == hold_vote(shuffled).share


@given(WORDS, WORDS)
def test_similarity_is_mutual_and_bounded(one: list[str], other: list[str]) -> None:
    similarity = find_similarity(one, other)

    assert similarity == find_similarity(other, one)
    assert 0 <= similarity <= 1
    assert find_similarity(one, one) == 1


@given(TEXTS, TEXTS)
def test_any_text_has_a_gist_of_its_own_words(question: str, text: str) -> None:
    gist = find_gist(question, text)

    assert len(gist) > 0 or not split_words(text)
    assert find_option("", text) is None


@given(JUDGED)
def test_the_errors_are_bounded_and_every_answer_is_in_the_table(
    judged: list[tuple[float, bool]],
) -> None:
    confidences, outcomes = [list(column) for column in zip(*judged, strict=True)]

    table = make_reliability_table(confidences, outcomes)

    assert sum(one.num_answers for one in table) == len(judged)
    assert 0 <= expected_calibration_error(confidences, outcomes) <= 1
    assert 0 <= brier_score(confidences, outcomes) <= 1


@given(
    st.lists(
        st.tuples(st.floats(-50, 0), st.floats(-50, 0), st.booleans()), min_size=1, max_size=40
    )
)
def test_any_answers_can_be_fitted(answers: list[tuple[float, float, bool]]) -> None:
    figures = [{"mean": mean, "least": least} for mean, least, _ in answers]

    curve = fit_curve(figures, [outcome for *_, outcome in answers], ("mean", "least"))

    assert all(0 <= curve.apply(one) <= 1 for one in figures)


@given(st.floats(allow_nan=False))
def test_every_score_is_some_share(score: float) -> None:
    assert 0 <= to_share(score) <= 1
