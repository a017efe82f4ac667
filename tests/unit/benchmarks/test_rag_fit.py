"""The regression of the evidence test, and the threshold that is chosen for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rag.answering import citations_of
from benchmarks.rag.fit import Examples, choose_threshold, cross_validate, fit
from benchmarks.routing.scoring import wilson


def test_what_tells_the_answerable_gets_the_weight() -> None:
    dice = np.random.default_rng(1)
    answerable = dice.random(400) < 0.8
    telling = np.where(answerable, 1.0, 0.0) + dice.normal(0, 0.3, 400)
    values = np.column_stack([telling, dice.normal(0, 1, 400), np.ones(400)])

    weights, bias = fit(values, answerable)

    assert weights[0] > 10 * abs(weights[1])
    # What is the same for all tells nothing.
    assert weights[2] == pytest.approx(0)
    judged = 1 / (1 + np.exp(-(values @ weights + bias)))
    assert np.mean((judged > 0.5) == answerable) > 0.9
    # Both kinds count the same, however many there are of each.
    assert abs(judged[answerable].mean() - (1 - judged[~answerable].mean())) < 0.1


def test_no_question_is_judged_by_what_has_seen_it() -> None:
    dice = np.random.default_rng(2)
    values = dice.normal(0, 1, (200, 30))
    answerable = dice.random(200) < 0.5

    none = np.zeros(200, dtype=bool)
    examples = Examples(
        about=values, told=values, answerable=answerable, is_general=none, is_extra=none
    )
    judged = cross_validate(examples)

    # There is nothing to be learned, and it shows.
    assert np.mean((judged > np.median(judged)) == answerable) < 0.62


@given(
    st.lists(
        st.tuples(st.integers(0, 1000), st.booleans()), min_size=2, unique_by=lambda one: one[0]
    ).filter(lambda some: {answerable for _, answerable in some} == {True, False})
)
def test_the_threshold_declines_enough_and_no_more_than_needed(
    some: list[tuple[int, bool]],
) -> None:
    judged = np.array([score / 1000 for score, _ in some])
    answerable = np.array([one for _, one in some])

    threshold = choose_threshold(judged, answerable)

    declined = judged < threshold
    num_unanswerable, num_declined = int((~answerable).sum()), int(declined[~answerable].sum())
    is_all = threshold == 1.0 or num_declined == num_unanswerable
    assert is_all or wilson(num_declined, num_unanswerable).low >= 0.8
    # One fewer would be too few.
    assert num_declined <= 1 or wilson(num_declined - 1, num_unanswerable).low < 0.8


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("It is deep. [1] It is old. [2]", [("It is deep.", 1), ("It is old.", 2)]),
        ('Title: "Deep." [3]\nOther: "Old." [1]', [('Title: "Deep."', 3), ('Other: "Old."', 1)]),
        ("Nothing is cited.", []),
    ],
)
def test_each_citation_is_read_with_what_it_is_for(text: str, cited: list[tuple[str, int]]) -> None:
    assert list(citations_of(text)) == cited
