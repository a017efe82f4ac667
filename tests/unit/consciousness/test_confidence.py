"""Figures of tokens, what answers come to, votes, and the gauge that tells confidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from mm_orch.consciousness.agreement import Vote, find_similarity, hold_vote
from mm_orch.consciousness.calibration import Curve, ModelCalibration, read_calibration, to_share
from mm_orch.consciousness.confidence import Confidence, measure_tokens, weigh_votes
from mm_orch.consciousness.gauge import Gauge, load_calibrations, write_calibration
from mm_orch.consciousness.short_answers import find_gist, find_option, split_words

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = "Which of these is a fruit? A) hammer B) a red apple C) river"
CALIBRATION = ModelCalibration(
    format=1,
    source="path:/model",
    questions_digest="d",
    max_tokens=3,
    num_votes=3,
    answer=Curve(weights={"mean": 2.0, "least": 1.0}, bias=1.0, num_examples=10),
    vote=Curve(weights={"share": 3.0, "is_first": 1.0}, bias=-2.0, num_examples=10),
)


def test_the_figures_of_tokens_are_theirs() -> None:
    figures = measure_tokens([-0.5, -1.5, 0.0, -2.0])

    assert figures is not None
    assert (figures.num_tokens, figures.mean, figures.least) == (4, -1.0, -2.0)
    assert figures.total == -4.0
    assert figures.normalised_probability == pytest.approx(math.exp(-1))
    assert figures.run_probability == pytest.approx(math.exp(-8))
    assert figures.least_probability == pytest.approx(math.exp(-2))


def test_without_tokens_there_are_no_figures() -> None:
    assert measure_tokens([]) is None


@pytest.mark.parametrize("logprob", [-9999.0, -math.inf, math.nan])
def test_what_is_no_log_probability_counts_as_the_least_likely(logprob: float) -> None:
    figures = measure_tokens([logprob, 1e-9])

    assert figures is not None
    assert (figures.least, figures.total, figures.mean) == (-100.0, -100.0, -50.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's Twenty-Five apples!", ["it's", "25", "apples"]),
        ("1,200.5 m", ["1200.5", "m"]),
        ("a hundred", ["100"]),
        ("\uff12 H2O co\u2019s", ["2", "h2o", "co's"]),
        ("\u6211\u4e0d\u77e5\u9053", ["\u6211", "\u4e0d", "\u77e5", "\u9053"]),
        ("...", []),
    ],
)
def test_words_are_folded(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("B) a red apple", "B"),
        ("The answer is C.", "C"),
        ("A red apple", "B"),
        ("the river", "C"),
        ("a red apple, no river", None),
        ("fruit", None),
        ("**B**: it grows on trees", "B"),
        ("J", None),
    ],
)
def test_an_option_is_chosen_by_its_letter_or_by_what_it_stands_for(
    text: str, letter: str | None
) -> None:
    assert find_option(OPTIONS, text) == letter
    assert find_option(OPTIONS.replace(" B", "\nB").replace(" C", "\nC"), text) == letter


@pytest.mark.parametrize("question", ["", "Is vitamin C. good?", "Choose."])
def test_a_question_without_options_has_none_to_choose(question: str) -> None:
    assert find_option(question, "C") is None


@pytest.mark.parametrize(
    ("question", "text", "gist"),
    [
        ("What is the capital of France?", "The capital of France is Paris.", ("paris",)),
        ("What is the capital of France?", "PARIS", ("paris",)),
        ("What is 5 + 7?", "5 + 7 = 12", ("12",)),
        ("What is 5 + 7?", "Twelve. So the answer is 12!", ("12",)),
        ("What is 5 + 0?", "5", ("5",)),
        ("Is a whale a fish?", "No, it is a mammal.", ("no",)),
        ("Is a whale a fish?", "False", ("no",)),
        (OPTIONS, "B.", ("b",)),
        (OPTIONS, "a red apple", ("b",)),
        ("", "", ()),
    ],
)
def test_answers_in_other_words_come_to_the_same(
    question: str, text: str, gist: tuple[str, ...]
) -> None:
    assert find_gist(question, text) == gist


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("paris", "paris", 1.0),
        ("paris", "lyon", 0.0),
        ("paris", "paris on the river seine in france", 0.0),
        ("a b c d e f", "a b c d e f", 1.0),
        ("a b c d e f", "a b c x y z", 0.5),
        ("", "", 1.0),
        ("", "paris", 0.0),
    ],
)
def test_short_answers_are_the_same_or_not_and_long_ones_more_or_less(
    one: str, other: str, similarity: float
) -> None:
    assert find_similarity(one.split(), other.split()) == similarity


@pytest.mark.parametrize(
    ("answers", "weights", "winner", "share", "num_agreeing"),
    [
        (["Rome"], None, 0, 1.0, 1),
        (["Rome", "Paris", "It is Paris."], None, 1, 2 / 3, 2),
        (["Rome", "Paris"], None, 0, 0.5, 1),
        (["Rome", "Paris", "Paris"], [3.0, 1.0, 1.0], 0, 0.6, 1),
        (["Rome", "Paris"], [0.0, 1.0], 1, 1.0, 1),
        (["one tall oak grew near our old mill", "no", "one tall oak grew near our red mill"],
         None, 0, None, 2),
    ],
)  # fmt: skip
def test_the_answer_that_stands_for_most_wins(
    answers: list[str],
    weights: list[float] | None,
    winner: int,
    share: float | None,
    num_agreeing: int,
) -> None:
    vote = hold_vote(answers, "Which city?", weights)

    assert (vote.winner, vote.num_agreeing) == (winner, num_agreeing)
    assert vote.num_answers == len(answers)
    assert 0 < vote.share < 1 if share is None else vote.share == pytest.approx(share)


@pytest.mark.parametrize(
    ("answers", "weights"), [([], None), (["a"], [1.0, 1.0]), (["a", "b"], [0.0, 0.0])]
)
def test_a_vote_needs_answers_and_weights(answers: list[str], weights: list[float] | None) -> None:
    with pytest.raises(ValueError, match="cannot be weighted"):
        hold_vote(answers, "", weights)


@pytest.mark.parametrize(
    ("logprobs", "weights"),
    [
        ([[-1.0, -3.0], [], [0.0]], [math.exp(-2), 0.0, 1.0]),
        ([[], []], None),
        ([], None),
    ],
)
def test_an_answer_counts_with_the_probability_of_its_tokens(
    logprobs: list[list[float]], weights: list[float] | None
) -> None:
    assert weigh_votes(logprobs) == weights


def test_without_a_calibration_confidence_is_the_tokens_and_says_so() -> None:
    confidence = Gauge().of_answer("any", [-1.0, -3.0])

    assert confidence == Confidence(value=math.exp(-2), is_calibrated=False)


def test_with_one_it_is_the_measured_share_up_to_the_length_that_was_measured() -> None:
    gauge = Gauge(calibration_by_model={"known": CALIBRATION})

    confidence = gauge.of_answer("known", [-1.0, -2.0])

    assert confidence == Confidence(value=to_share(1 - 2 * 1.5 - 2), is_calibrated=True)
    assert gauge.of_answer("known", [-1.0] * 4) == Confidence(
        value=math.exp(-1), is_calibrated=False
    )
    assert gauge.of_answer("known", []) is None


@pytest.mark.parametrize(
    ("model", "num_answers", "first", "value", "is_calibrated"),
    [
        ("known", 3, Confidence(value=0.5, is_calibrated=True), to_share(-2 + 3 * 0.75 + 1), True),
        ("known", 3, Confidence(value=0.5, is_calibrated=False), 0.75, False),
        ("known", 3, None, 0.75, False),
        ("known", 2, Confidence(value=0.5, is_calibrated=True), 0.75, False),
        ("other", 3, Confidence(value=0.5, is_calibrated=True), 0.75, False),
    ],
)
def test_a_votes_confidence_is_calibrated_where_it_is_the_vote_that_was_measured(
    model: str, num_answers: int, first: Confidence | None, value: float, *, is_calibrated: bool
) -> None:
    gauge = Gauge(calibration_by_model={"known": CALIBRATION})
    vote = Vote(winner=0, share=0.75, num_answers=num_answers, num_agreeing=2)

    confidence = gauge.of_vote(model, vote, first)

    assert confidence.value == pytest.approx(value)
    assert confidence.is_calibrated is is_calibrated


@pytest.mark.parametrize(("unsure_below", "is_unsure"), [(None, False), (0.3, False), (0.4, True)])
def test_what_is_unsure_is_the_operators_choice(
    unsure_below: float | None, *, is_unsure: bool
) -> None:
    confidence = Gauge(unsure_below=unsure_below).of_answer("any", [-1.0])

    assert confidence is not None
    assert confidence.is_unsure is is_unsure


def test_a_calibration_is_found_by_the_source_of_its_model(tmp_path: Path) -> None:
    write_calibration(CALIBRATION, tmp_path / "one.json")
    sources = {"mine": "path:/model", "other": "path:/other"}

    assert load_calibrations(sources, tmp_path) == {"mine": CALIBRATION}


def test_a_damaged_calibration_is_warned_of_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "bad.json").write_text("{}")
    write_calibration(CALIBRATION, tmp_path / "good.json")

    assert load_calibrations({"mine": "path:/model"}, tmp_path) == {"mine": CALIBRATION}
    assert "bad.json" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((b'"format": 1', b'"format": 2'), "has format 2; 1 can be read"),
        ((b'"share"', b'"luck"'), "weighs luck; known are share"),
        ((b'"least"', b'"luck"'), "weighs luck; known are mean"),
        ((b'"bias"', b'"bend"'), "no calibration"),
    ],
)
def test_a_calibration_of_another_kind_is_refused(
    tmp_path: Path, change: tuple[bytes, bytes], message: str
) -> None:
    write_calibration(CALIBRATION, tmp_path / "one.json")
    data = (tmp_path / "one.json").read_bytes()
    assert change[0] in data

    with pytest.raises(ValueError, match=message):
        read_calibration(data.replace(*change))
