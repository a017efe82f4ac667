"""The policy of scaling: what must hold of any windows, and of a loop that it closes itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm_orch.autoscaling.policy import ScalingPolicy
from mm_orch.autoscaling.readings import Direction, Goals, Reading
from mm_orch.optimization.replicas.layout import ReplicaRange
from tests.scaling_simulation import SimulatedModel

if TYPE_CHECKING:
    from collections.abc import Callable

GOALS = Goals(target_wait_s=2.0, quiet_s=30.0)
# Of the simulated model: what one replica computes.
REQUESTS_PER_S = 2.0
# Two that are too long in a row, each begun a moment after the last one was found to be right.
WINDOWS_TO_NOTICE_S = 8.0

ranges = st.tuples(st.integers(1, 6), st.integers(1, 8)).map(
    lambda drawn: ReplicaRange(drawn[0], drawn[0] + drawn[1])
)
windows = st.lists(
    st.fixed_dictionaries(
        {
            "num_waiting": st.floats(0, 50),
            "num_running": st.floats(0, 50),
            "num_begun": st.integers(0, 50),
            "num_arrived": st.integers(0, 100),
            "num_tokens": st.integers(0, 10_000),
            "kv_use_ratio": st.none() | st.floats(0, 1),
        }
    ),
    min_size=1,
    max_size=80,
)


@given(bounds=ranges, drawn=windows, is_late=st.booleans())
def test_any_windows_keep_the_bounds_and_the_quiet_time(
    bounds: ReplicaRange, drawn: list[dict[str, object]], *, is_late: bool
) -> None:
    policy, now_s, count, last_up_s = ScalingPolicy(), 0.0, bounds.least, None
    for values in drawn:
        now_s += 2.0
        # Those that were asked for come at once, or only when fewer are wanted.
        num_serving = bounds.least if is_late else count
        reading = Reading(
            span_s=2.0,
            num_serving=num_serving,
            num_wanted=count,
            num_places=8,
            **values,  # type: ignore[arg-type]  # drawn by name
        )
        decision = policy.take(reading, bounds, GOALS, now_s)
        if decision is None:
            continue
        assert bounds.least <= decision.count <= bounds.most
        assert decision.rationale
        match decision.direction:
            case Direction.UP:
                assert count < decision.count <= max(2 * num_serving, num_serving + 1)
                last_up_s = now_s
            case Direction.DOWN:
                assert decision.count < count
                assert now_s > GOALS.quiet_s
                assert last_up_s is None or now_s - last_up_s >= GOALS.quiet_s
            case Direction.HELD:
                assert decision.count == count
        count = decision.count


def simulate(rate: Callable[[float], float], most: int = 8, load_s: float = 10.0) -> SimulatedModel:
    return SimulatedModel(find_rate=rate, bounds=ReplicaRange(1, most), goals=GOALS, load_s=load_s)


def is_enough(count: int, load: float, span_s: float) -> bool:
    """Whether so many replicas leave no more waiting at the end of that time than may wait.

    A hair too much load takes very long to make a line that is too long.
    """
    return count * span_s >= load * (span_s - GOALS.target_wait_s - WINDOWS_TO_NOTICE_S)


@settings(max_examples=10, deadline=None)
@given(
    load=st.floats(0.1, 7.5),
    load_s=st.sampled_from([0.0, 4.0, 30.0]),
    shift=st.floats(0, 1),
)
def test_a_load_that_stays_comes_to_rest_with_enough_replicas(
    load: float, load_s: float, shift: float
) -> None:
    """Load in replicas: what is computed in a second by so many."""
    model = simulate(lambda _: load * REQUESTS_PER_S, load_s=load_s)
    model._due = shift
    model.run(600)
    num_settled = len(model.decisions)
    model.run(300)

    # It asks for a few more than it needs while what waited is worked off, gives those back, and
    # that is all.
    assert num_settled <= 8
    assert len(model.decisions) == num_settled
    assert is_enough(model.num_serving, load, span_s=900)
    # Those of one replica begin together, so that a window sees all of them begin or none.
    num_together = model.num_places
    assert model.num_waiting <= GOALS.target_wait_s * load * REQUESTS_PER_S + num_together
    assert model.num_serving <= max(1, 2 * load / 0.7 + 1)


@settings(max_examples=10, deadline=None)
@example(load=2.00001, load_s=0.0)
@given(load=st.floats(1.2, 7.0), load_s=st.sampled_from([0.0, 10.0]))
def test_replicas_come_with_a_load_and_go_when_it_is_over(load: float, load_s: float) -> None:
    model = simulate(lambda now_s: load * REQUESTS_PER_S if now_s < 300 else 0.0, load_s=load_s)
    model.run(60 + 4 * load_s)
    assert model.num_wanted >= 2
    model.run(240 - 4 * load_s)
    assert is_enough(model.num_wanted, load, span_s=300)
    model.run(GOALS.quiet_s * 2 + 200)

    assert model.num_wanted == model.num_serving == 1
    ups = [at_s for at_s, one in model.decisions if one.direction is Direction.UP]
    downs = [at_s for at_s, one in model.decisions if one.direction is Direction.DOWN]
    assert max(ups) < max(downs)


@pytest.mark.parametrize("period_s", [8.0, 20.0, 50.0])
def test_a_load_that_comes_and_goes_within_the_quiet_time_moves_nothing(period_s: float) -> None:
    def rate(now_s: float) -> float:
        return 6.0 if now_s % period_s < period_s / 2 else 1.0

    model = simulate(rate)
    model.run(400)
    settled = len(model.decisions)
    model.run(1200)
    moves = [(round(at_s), one.direction.value, one.count) for at_s, one in model.decisions]
    assert len(model.decisions) == settled, moves
