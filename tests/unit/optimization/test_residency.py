from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.residency import (
    Evict,
    Fits,
    Resident,
    Wait,
    find_excess,
    find_room,
    may_leave_at_s,
)

NOW_S = 100.0


def resident(name: str, num_bytes: int, **facts: object) -> Resident:
    known: dict[str, object] = {"last_used_s": 50.0, "is_busy": False, **facts}
    return Resident(name=name, num_bytes=num_bytes, **known)  # type: ignore[arg-type]  # told in short


def room(wanted: int, *residents: Resident, budget: int = 100, most: int = 9) -> object:
    return find_room(wanted, residents, budget_bytes=budget, max_models=most, now_s=NOW_S)


def test_what_fits_comes_at_once() -> None:
    assert room(40, resident("a", 60)) == Fits()


def test_the_least_recently_used_leave_first_and_no_more_than_needed() -> None:
    here = (
        resident("new", 30, last_used_s=90.0),
        resident("old", 30, last_used_s=10.0),
        resident("older", 30, last_used_s=5.0),
    )

    assert room(40, *here) == Evict(("older",))
    assert room(60, *here) == Evict(("older", "old"))


def test_a_busy_model_never_leaves() -> None:
    answer = room(60, resident("busy", 60, is_busy=True, last_used_s=0.0), resident("idle", 20))

    assert isinstance(answer, Wait)
    assert "busy busy" in answer.reason
    assert answer.until_s is None


def test_a_model_that_was_just_loaded_stays_a_while() -> None:
    answer = room(60, resident("fresh", 60, may_leave_at_s=130.0))

    assert answer == Wait(
        "waiting for a place (it takes 1 MiB and system.model_memory_mb is 0; fresh just loaded)",
        130.0,
    )


def test_no_more_models_than_may_be_loaded_at_once() -> None:
    assert room(1, resident("a", 1), most=1) == Evict(("a",))
    answer = room(1, resident("a", 1, is_busy=True), most=1)
    assert isinstance(answer, Wait)
    assert "system.max_cached_models is 1" in answer.reason


def test_one_that_is_larger_than_everything_may_be_loaded_alone() -> None:
    assert room(500) == Fits()
    assert room(500, resident("a", 1)) == Evict(("a",))


def test_models_that_have_outgrown_the_budget_lose_the_one_that_is_used_least() -> None:
    def excess(*residents: Resident) -> str | None:
        return find_excess(residents, budget_bytes=100, now_s=NOW_S)

    large = resident("large", 90, last_used_s=80.0)
    assert excess(large, resident("old", 20, last_used_s=1.0)) == "old"
    assert excess(large, resident("old", 5)) is None
    assert excess(resident("alone", 300)) is None
    assert excess(large, resident("busy", 20, is_busy=True, last_used_s=1.0)) == "large"


def test_what_took_long_to_load_stays_long() -> None:
    assert may_leave_at_s(10.0, load_s=0.1) == 15.0
    assert may_leave_at_s(10.0, load_s=60.0) == 310.0


residents_drawn = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        num_bytes=st.integers(1, 60),
        last_used_s=st.floats(0, NOW_S),
        is_busy=st.booleans(),
        may_leave_at_s=st.floats(0, 2 * NOW_S),
    ),
    max_size=6,
)


@given(residents_drawn, st.integers(1, 120), st.integers(1, 150), st.integers(1, 6))
def test_nobody_busy_or_fresh_is_asked_to_leave_and_then_there_is_room(
    residents: list[Resident], wanted: int, budget: int, most: int
) -> None:
    answer = find_room(wanted, residents, budget_bytes=budget, max_models=most, now_s=NOW_S)

    leaving = set(answer.names) if isinstance(answer, Evict) else set()
    for one in residents:
        if one.is_busy or one.may_leave_at_s > NOW_S:
            assert one.name not in leaving
    staying = [one for one in residents if one.name not in leaving]
    has_room = not staying or (
        len(staying) < most and sum(one.num_bytes for one in staying) + wanted <= budget
    )
    assert has_room is not isinstance(answer, Wait)
