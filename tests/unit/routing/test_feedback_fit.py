"""What routing learns from feedback, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.routing.development import DEVELOPMENT_PATH, Development, load_development
from mm_orch.routing.feedback_fit import (
    MAX_BIAS,
    fit_biases,
    gather_opinions,
    learn,
)
from mm_orch.routing.learned import load_learned
from mm_orch.routing.route import WORKFLOWS
from mm_orch.storage.outcomes import Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mm_orch.routing.feedback_fit import Opinions

SEARCH, CHAT = WORKFLOWS.index("search_qa"), WORKFLOWS.index("chat_generate")
# As far as the next of WORKFLOWS is from being believed in.
UNSURE = {"search_qa": 0.55, "chat_generate": 0.45}


def outcome(workflow: str, feedback: float | None, **fields: object) -> Outcome:
    values: dict[str, object] = {
        "kind": "run",
        "request_id": "r",
        "caller": "alice",
        "model": "small",
        "at_s": 0.0,
        "is_success": True,
        "latency_s": 1.0,
        "num_tokens": 10,
        "belief_by_workflow": UNSURE,
    }
    return Outcome(workflow=workflow, feedback=feedback, **(values | fields))  # type: ignore[arg-type]  # by name


def opinions_of(*outcomes: Outcome) -> Opinions:
    return gather_opinions(outcomes, now_s=0.0, half_life_s=100.0)


def alternating(disliked: str, liked: str, number: int = 20) -> Opinions:
    pair = (outcome(disliked, -1.0), outcome(liked, 1.0))
    return opinions_of(*(one for _ in range(number) for one in pair))


def without_pattern() -> list[Outcome]:
    dice = np.random.default_rng(3)
    return [
        outcome(str(dice.choice(["search_qa", "chat_generate"])), float(dice.choice([-1, 1])))
        for _ in range(60)
    ]


def development_of(beliefs: NDArray[np.float32], labels: list[int]) -> Development:
    return Development(beliefs=beliefs, labels=np.array(labels), digest="d")


def sure_of(*labels: int, share: float = 0.9) -> Development:
    beliefs = np.full((len(labels), len(WORKFLOWS)), (1 - share) / 4, dtype=np.float32)
    beliefs[np.arange(len(labels)), labels] = share
    return development_of(beliefs, list(labels))


def test_what_is_disliked_where_it_was_unsure_loses_and_what_is_liked_gains() -> None:
    biases = fit_biases(alternating("search_qa", "chat_generate"))

    assert biases[SEARCH] < -0.2
    assert biases[CHAT] > 0.2
    # Of what was never a choice nothing is learned.
    assert biases[WORKFLOWS.index("rag_qa")] == pytest.approx(0.0)


def test_dislikes_that_are_as_frequent_everywhere_move_little() -> None:
    """A small model is disliked whatever workflow it answers in, and in one most of the time."""
    sure = {"chat_generate": 0.97, "search_qa": 0.03}
    mostly = [
        outcome("chat_generate", 1.0 if n % 2 else -1.0, belief_by_workflow=sure) for n in range(90)
    ]
    rarely = [
        outcome("search_qa", 1.0 if n % 2 else -1.0, belief_by_workflow=UNSURE) for n in range(10)
    ]

    assert np.abs(fit_biases(opinions_of(*mostly, *rarely))).max() < 0.25


@given(
    st.lists(
        st.tuples(
            st.sampled_from(WORKFLOWS),
            st.floats(-1, 1),
            st.lists(st.floats(0.01, 1), min_size=5, max_size=5),
        ),
        max_size=60,
    )
)
def test_whatever_was_said_biases_are_bounded_and_the_same_each_time(
    some: list[tuple[str, float, list[float]]],
) -> None:
    outcomes = [
        outcome(
            workflow,
            feedback,
            belief_by_workflow=dict(
                zip(WORKFLOWS, (one / sum(shares) for one in shares), strict=True)
            ),
        )
        for workflow, feedback, shares in some
    ]
    opinions = opinions_of(*outcomes)
    if len(opinions):
        biases = fit_biases(opinions)

        assert np.isfinite(biases).all()
        assert np.abs(biases).max() <= MAX_BIAS
        assert np.array_equal(biases, fit_biases(opinions))


@pytest.mark.parametrize(
    "untold",
    [
        outcome("search_qa", None),
        outcome("search_qa", 0.0),
        # The caller named it.
        outcome("search_qa", 1.0, belief_by_workflow={}),
        outcome("search_qa", 1.0, belief_by_workflow={"search_qa": 1.0}),
        # A generation, or a plug-in's run.
        outcome("my_plugin", 1.0, belief_by_workflow=UNSURE),
        outcome("lesson_pack", 1.0),
        # Long ago.
        outcome("search_qa", 1.0, at_s=-10_000.0),
    ],
)
def test_only_what_was_chosen_and_rated_lately_teaches(untold: Outcome) -> None:
    assert len(opinions_of(untold)) == 0
    assert len(opinions_of(untold, outcome("search_qa", 1.0))) == 1


def test_an_old_opinion_weighs_less() -> None:
    opinions = opinions_of(outcome("search_qa", 0.5), outcome("search_qa", -1.0, at_s=-100.0))

    # The oldest first.
    assert opinions.weights.tolist() == [0.5, 0.5]
    assert opinions.is_liked.tolist() == [False, True]


def test_what_harms_no_development_query_is_taken() -> None:
    learned = learn(alternating("search_qa", "chat_generate"), sure_of(SEARCH, CHAT))

    assert learned.biases[SEARCH] < 0 < learned.biases[CHAT]
    assert (learned.num_right, learned.num_right_before) == (2, 2)


def test_of_what_would_harm_a_development_query_only_a_part_is_taken_or_nothing() -> None:
    opinions = alternating("search_qa", "chat_generate")
    whole = fit_biases(opinions)
    gap = whole[CHAT] - whole[SEARCH]

    def nearly(part: float) -> Development:
        """Queries that are routed right as long as no more than this part of it is taken."""
        ratio = np.exp(part * gap)
        beliefs = np.zeros((5, len(WORKFLOWS)), dtype=np.float32)
        beliefs[:, [SEARCH, CHAT]] = ratio / (1 + ratio), 1 / (1 + ratio)
        return development_of(beliefs, 5 * [SEARCH])

    half, quarter, none = (learn(opinions, nearly(part)) for part in (0.7, 0.3, 0.1))

    assert half.biases == pytest.approx(0.5 * whole, abs=1e-3)
    assert quarter.biases == pytest.approx(0.25 * whole, abs=1e-3)
    assert not none.biases.any()
    assert none.reason == "It would surely route fewer of the development queries right."


@pytest.mark.parametrize(
    ("num_lost", "num_gained", "is_worse"),
    # As scipy.stats.binomtest(lost, lost + gained, alternative="greater") has them at 5%.
    [(0, 0, False), (4, 0, False), (5, 0, True), (5, 1, False), (7, 1, True), (9, 4, False)],
)
def test_harm_is_what_a_sign_test_shows(num_lost: int, num_gained: int, *, is_worse: bool) -> None:
    beliefs = np.zeros((num_lost + num_gained + 1, len(WORKFLOWS)), dtype=np.float32)
    beliefs[:, [SEARCH, CHAT]] = 0.51, 0.49
    labels = [*num_lost * [SEARCH], *num_gained * [CHAT], WORKFLOWS.index("rag_qa")]
    biases = np.zeros(len(WORKFLOWS))
    biases[CHAT] = 0.5

    assert development_of(beliefs, labels).is_worse(biases) is is_worse


def test_feedback_without_a_pattern_teaches_nothing() -> None:
    learned = learn(opinions_of(*without_pattern()), sure_of(SEARCH, CHAT))

    assert not learned.biases.any()
    assert learned.reason == "It does not surely explain feedback that it was not learned from."


def test_the_development_queries_that_ship_are_of_the_weights_that_ship() -> None:
    development, header = load_development(), load_learned().header

    assert development.beliefs.shape == (len(development.labels), len(WORKFLOWS))
    assert np.allclose(development.beliefs.sum(axis=1), 1.0, atol=0.01)
    # As benchmarks/results/routing_training.json has it, rounded.
    assert 0.93 < development.find_right(np.zeros(len(WORKFLOWS))).mean() < 0.98
    with np.load(DEVELOPMENT_PATH) as arrays:
        own = json.loads(arrays["header"].tobytes())
    assert own["queries_digest"] == header.queries_digest
