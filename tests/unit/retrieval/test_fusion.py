"""What words and vectors find together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.retrieval.fusion import fuse
from tests.unit.retrieval.scene import found

QUESTION = "How deep is the well?"
WELL = ("The well is 61 metres deep.", 0)
STEPS = ("The tower has steps.", 1)
SALT = ("Salt was dear.", 2)


def hits(*scored: tuple[tuple[str, int], float]) -> list:  # type: ignore[type-arg]  # of Found
    return [found(text, score, number=number) for (text, number), score in scored]


def test_each_chunk_is_there_once_and_the_best_of_both_first() -> None:
    words = hits((WELL, 4.0), (STEPS, 1.0))
    vectors = hits((WELL, 0.8), (SALT, 0.2))

    candidates = fuse(QUESTION, words, vectors)

    assert [one.chunk.number for one in candidates] == [0, 1, 2]
    # Of one that vectors did not find, the least that they found.
    assert [one.cosine for one in candidates] == [0.8, 0.2, 0.2]
    assert candidates[0].score == pytest.approx(1.0)
    assert candidates[2].score == pytest.approx(0.0)


@pytest.mark.parametrize("is_by_words", [True, False])
def test_one_search_alone_gives_scores_from_0_to_1_too(is_by_words: bool) -> None:  # noqa: FBT001 - pytest passes by name
    some = hits((WELL, 0.8), (SALT, 0.2))

    candidates = fuse(QUESTION, some, []) if is_by_words else fuse(QUESTION, [], some)

    assert [one.chunk.number for one in candidates] == [0, 2]
    assert candidates[0].score == pytest.approx(1.0)
    assert [one.cosine for one in candidates] == ([None] * 2 if is_by_words else [0.8, 0.2])


def test_nothing_found_is_nothing() -> None:
    assert fuse(QUESTION, [], []) == []


_SCORES = st.floats(min_value=-1, max_value=100)
_HITS = st.lists(
    st.tuples(st.sampled_from([WELL, STEPS, SALT]), _SCORES),
    max_size=3,
    unique_by=lambda one: one[0],
)


@given(_HITS, _HITS)
def test_scores_are_between_0_and_1_and_fall(
    words: list[tuple[tuple[str, int], float]], vectors: list[tuple[tuple[str, int], float]]
) -> None:
    candidates = fuse(QUESTION, hits(*words), hits(*vectors))

    scores = [one.score for one in candidates]
    assert scores == sorted(scores, reverse=True)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in scores)
    numbers = {number for (_, number), _ in (*words, *vectors)}
    assert sorted(one.chunk.number for one in candidates) == sorted(numbers)
