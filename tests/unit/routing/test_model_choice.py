"""Which model answers a request for auto: what is fit, what is best, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.consciousness.goals import Goals
from mm_orch.core.mind_report import OutcomeStatistics
from mm_orch.routing.model_choice import (
    SMALLEST_CAPABILITY,
    ModelFacts,
    choose_model,
    find_capabilities,
)
from mm_orch.routing.request_features import EASIEST, RequestFeatures

if TYPE_CHECKING:
    from mm_orch.core.routing import ModelChoice

SMALL = ModelFacts(
    name="small", num_parameters=135e6, context_length=2048, tokens_per_s=40.0, max_batch_size=8
)
LARGE = ModelFacts(
    name="large", num_parameters=7e9, context_length=32_768, tokens_per_s=8.0, max_batch_size=8
)
BOTH = (SMALL, LARGE)
EASY = RequestFeatures(
    num_prompt_tokens=20,
    num_answer_tokens=256,
    num_choices=1,
    is_chat=True,
    is_tokens=False,
    signs=(),
    num_constraints=0,
)
HARD = replace(EASY, signs=("code", "reasoning"), num_constraints=2)
EVEN = Goals()


def choose(
    features: RequestFeatures,
    models: tuple[ModelFacts, ...] = BOTH,
    goals: Goals = EVEN,
    **past: OutcomeStatistics,
) -> ModelChoice:
    return choose_model(features, models, default="small", goals=goals, past_by_model=past)


def past(success_ratio: float, weight: float = 1000.0) -> OutcomeStatistics:
    return OutcomeStatistics(
        num_outcomes=round(weight),
        weight=weight,
        success_ratio=success_ratio,
        latency_s=None,
        num_tokens=None,
        confidence=None,
        feedback=None,
    )


@pytest.mark.parametrize(
    ("features", "models", "goals", "chosen"),
    [
        (EASY, BOTH, EVEN, "small"),
        (HARD, BOTH, EVEN, "large"),
        (HARD, BOTH, Goals(quality=0.1, latency=0.5, cost=0.4), "small"),
        (EASY, BOTH, Goals(quality=1.0, latency=0.0, cost=0.0), "small"),
        # Too long for the small one, however easy.
        (replace(EASY, num_prompt_tokens=3000), BOTH, EVEN, "large"),
        (replace(EASY, num_answer_tokens=2048), BOTH, EVEN, "large"),
        # An hour of loading is worth no better answer.
        (HARD, (SMALL, replace(LARGE, load_s=3600.0, tokens_per_s=0.01)), EVEN, "large"),
        (
            HARD,
            (SMALL, replace(LARGE, load_s=3600.0, tokens_per_s=0.01)),
            Goals(quality=0.2, latency=0.6, cost=0.2),
            "small",
        ),
        (EASY, (replace(SMALL, obstacle="it is being drained"), LARGE), EVEN, "large"),
        (EASY, (replace(SMALL, failure_ratio=0.9), LARGE), EVEN, "large"),
        (EASY, (replace(SMALL, takes_chats=False), LARGE), EVEN, "large"),
        (replace(EASY, is_chat=False), (replace(SMALL, takes_chats=False), LARGE), EVEN, "small"),
        # Whose tokeniser made the ids is not known; it is taken to be the default's.
        (replace(HARD, is_chat=False, is_tokens=True), BOTH, EVEN, "small"),
    ],
)
def test_the_model_that_serves_the_goals_best_is_chosen(
    features: RequestFeatures, models: tuple[ModelFacts, ...], goals: Goals, chosen: str
) -> None:
    assert choose(features, models, goals).model == chosen


@pytest.mark.parametrize("features", [EASY, HARD])
def test_with_one_model_it_is_that_one(features: RequestFeatures) -> None:
    choice = choose(features, (SMALL,))

    assert (choice.model, choice.by, choice.ruled_out) == ("small", "only", ())


def test_where_none_fits_the_default_says_what_is_wrong() -> None:
    choice = choose(replace(EASY, num_prompt_tokens=100_000))

    assert (choice.model, choice.by, choice.alternatives) == ("small", "default", ())
    assert [one.name for one in choice.ruled_out] == ["small", "large"]
    assert "do not fit into its context of 2048" in choice.ruled_out[0].reason


@pytest.mark.parametrize(
    ("features", "models", "reason"),
    [
        (EASY, BOTH, "It asks for nothing special, for which small is able enough."),
        (HARD, BOTH, "It asks for code, reasoning and several conditions, which needs more than"),
        (
            EASY,
            (replace(SMALL, load_s=600.0), replace(LARGE, num_parameters=6e8, tokens_per_s=40.0)),
            "It asks for nothing special; large is expected to answer sooner or better than small.",
        ),
        (
            replace(EASY, signs=("code",)),
            BOTH,
            "It asks for code; of what the others would gain, small is quicker and cheaper by more",
        ),
    ],
)
def test_a_choice_says_why(
    features: RequestFeatures, models: tuple[ModelFacts, ...], reason: str
) -> None:
    assert choose(features, models).reason.startswith(reason)


def test_what_was_ruled_out_is_told_with_its_reason() -> None:
    choice = choose(EASY, (replace(SMALL, obstacle="it is being drained"), LARGE))

    assert [(one.name, one.reason) for one in choice.ruled_out] == [
        ("small", "it is being drained")
    ]
    assert [one.model for one in choice.alternatives] == ["large"]


def test_past_failures_turn_the_choice_and_it_says_so() -> None:
    almost = replace(EASY, signs=("code",))

    assert choose(almost).by == "scores"
    turned = choose(almost, small=past(0.0), large=past(1.0))

    assert (turned.model, turned.by) == ("large", "outcomes")
    assert "past answers speak for large" in turned.reason
    # The same state, the same choice.
    assert choose(almost, small=past(0.0), large=past(1.0)) == turned


def test_a_longer_queue_and_a_slower_pace_are_expected_to_take_longer() -> None:
    def latency(model: ModelFacts) -> float:
        return choose(EASY, (model,)).alternatives[0].expected_latency_s

    assert latency(SMALL) == 256 / 40
    assert latency(replace(SMALL, num_waiting=16)) == pytest.approx(3 * 256 / 40)
    assert latency(replace(SMALL, load_s=5.0)) == 5 + 256 / 40
    assert latency(replace(SMALL, tokens_per_s=None)) == pytest.approx(256 / (2.5e9 / 135e6))


def test_capability_goes_by_size_among_the_models_at_hand() -> None:
    near = find_capabilities([SMALL, replace(SMALL, name="twin", num_parameters=2 * 135e6)])
    far = find_capabilities([*BOTH, ModelFacts(name="unknown")])

    assert near["small"] == far["small"] == SMALLEST_CAPABILITY
    assert near["twin"] == pytest.approx(SMALLEST_CAPABILITY + 0.5 * (1 - SMALLEST_CAPABILITY))
    assert far["large"] == far["unknown"] == pytest.approx(1.0)
    assert find_capabilities([ModelFacts(name="a")]) == {"a": SMALLEST_CAPABILITY}


facts = st.builds(
    ModelFacts,
    name=st.just(""),
    num_parameters=st.none() | st.floats(1e6, 1e12),
    context_length=st.none() | st.integers(1, 200_000),
    takes_chats=st.booleans(),
    obstacle=st.sampled_from(["", "", "it is being drained"]),
    load_s=st.floats(0, 1e4),
    tokens_per_s=st.none() | st.floats(0.01, 1e4),
    num_waiting=st.integers(0, 1000),
    max_batch_size=st.integers(1, 64),
    failure_ratio=st.floats(0, 1),
)
features_ = st.builds(
    RequestFeatures,
    num_prompt_tokens=st.integers(0, 100_000),
    num_answer_tokens=st.integers(1, 100_000),
    num_choices=st.integers(1, 16),
    is_chat=st.booleans(),
    is_tokens=st.booleans(),
    signs=st.sets(st.sampled_from(["code", "maths", "reasoning", "tools"])).map(tuple),
    num_constraints=st.integers(0, 4),
)
goals_ = st.builds(Goals, quality=st.floats(0.01, 1), latency=st.floats(0, 1), cost=st.floats(0, 1))


@given(features_, st.lists(facts, min_size=1, max_size=5), goals_, st.floats(0, 1))
def test_any_choice_is_whole_and_fits(
    features: RequestFeatures, drawn: list[ModelFacts], goals: Goals, success_ratio: float
) -> None:
    models = [replace(one, name=f"m{number}") for number, one in enumerate(drawn)]
    told = {"m0": past(success_ratio)}

    choice = choose_model(features, models, default="m0", goals=goals, past_by_model=told)

    ranked, out = [one.model for one in choice.alternatives], [one.name for one in choice.ruled_out]
    assert sorted([*ranked, *out]) == [one.name for one in models]
    assert all(one.reason for one in choice.ruled_out)
    assert choice.model == (ranked[0] if ranked else "m0")
    assert choice.reason
    scores = [one.score for one in choice.alternatives]
    assert scores == sorted(scores, reverse=True)
    assert all(
        0 <= one.score <= 1 and 0 <= one.expected_quality <= 1 for one in choice.alternatives
    )
    for one in choice.alternatives:
        [model] = [each for each in models if each.name == one.model]
        assert not model.obstacle
        length = model.context_length
        assert length is None or features.num_prompt_tokens < length


@given(features_, goals_, st.floats(0, 1), st.floats(0, 1))
def test_more_failures_never_bring_a_model_forward(
    features: RequestFeatures, goals: Goals, ratio: float, other: float
) -> None:
    worse, better = sorted((ratio, other))
    fitting = replace(features, is_tokens=False, num_prompt_tokens=10, num_answer_tokens=10)
    models = (SMALL, LARGE)

    was = choose_model(
        fitting, models, default="small", goals=goals, past_by_model={"small": past(better)}
    )
    now = choose_model(
        fitting, models, default="small", goals=goals, past_by_model={"small": past(worse)}
    )

    if was.model != "small":
        assert now.model != "small"


@given(features_, goals_, st.integers(0, 3))
def test_a_harder_request_never_brings_the_small_model_forward(
    features: RequestFeatures, goals: Goals, more: int
) -> None:
    easier = replace(features, is_tokens=False, num_prompt_tokens=10, num_answer_tokens=10)
    harder = replace(easier, num_constraints=min(4, easier.num_constraints + more))

    assert EASIEST <= easier.difficulty <= harder.difficulty <= 1
    if choose(easier, goals=goals).model == "large":
        assert choose(harder, goals=goals).model == "large"
