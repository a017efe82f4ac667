from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.replicas.layout import (
    Drain,
    Machine,
    Member,
    Share,
    Start,
    find_count,
    next_move,
    share_out,
    share_range,
)

ALL, LEFT, RIGHT = Share(), Share((0,)), Share((1,))


def machine(num_cores: int, num_gpus: int = 0) -> Machine:
    return Machine(cores=tuple(range(num_cores)), num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("here", "num_gpus_each", "num_fitting", "count"),
    [
        (machine(2), 1, 9, 1),
        (machine(31), 1, 9, 1),
        (machine(64), 1, 9, 4),
        (machine(64), 1, 3, 3),
        (machine(64), 1, 0, 1),
        (machine(64, num_gpus=2), 1, 9, 2),
        (machine(8, num_gpus=8), 4, 9, 2),
        (machine(8, num_gpus=1), 2, 9, 1),
    ],
)
def test_auto_is_what_devices_cores_and_memory_permit(
    here: Machine, num_gpus_each: int, num_fitting: int, count: int
) -> None:
    assert find_count(here, num_gpus_each=num_gpus_each, num_fitting=num_fitting) == count


def test_one_alone_has_everything() -> None:
    assert share_out(1, machine(8, num_gpus=4)) == [ALL]


def test_replicas_have_cores_of_their_own_while_there_are_enough() -> None:
    assert share_out(2, machine(5)) == [Share((0, 1)), Share((2, 3, 4))]
    assert share_out(3, machine(2)) == [LEFT, RIGHT, LEFT]


@pytest.mark.parametrize("here", [machine(64), machine(4, num_gpus=4)])
def test_replicas_of_a_range_stay_where_they_are_when_others_come(here: Machine) -> None:
    all_there = share_range(4, 4, here)
    assert len({share.cores for share in all_there}) == 4
    for count in range(1, 4):
        assert share_range(count, 4, here) == all_there[:count]


def test_replicas_of_a_range_share_the_cores_of_a_small_machine() -> None:
    assert share_range(1, 4, machine(2)) == [ALL]
    assert share_range(2, 4, machine(2)) == [LEFT, RIGHT]


@given(st.integers(1, 9), st.integers(1, 9))
def test_every_core_is_shared_out(count: int, num_cores: int) -> None:
    shares = share_out(count, machine(num_cores))
    assert len(shares) == count
    cores = {core for share in shares for core in share.cores}
    assert cores == (set() if count == 1 else set(range(num_cores)))
    if 1 < count <= num_cores:
        assert sum(len(share.cores) for share in shares) == num_cores


def member(number: int, share: Share, *, is_serving: bool = True) -> Member:
    return Member(number=number, share=share, is_serving=is_serving)


def test_what_is_missing_is_started_first() -> None:
    here = [member(0, ALL)]
    assert next_move(here, [LEFT, RIGHT], has_room=True) == Start(LEFT)
    here.append(member(1, LEFT))
    assert next_move(here, [LEFT, RIGHT], has_room=True) == Start(RIGHT)
    here.append(member(2, RIGHT))
    assert next_move(here, [LEFT, RIGHT], has_room=True) == Drain(0)
    del here[0]
    assert next_move(here, [LEFT, RIGHT], has_room=True) is None


def test_without_room_another_makes_it() -> None:
    here = [member(0, ALL), member(1, LEFT)]
    assert next_move(here, [LEFT, RIGHT], has_room=False) == Drain(0)
    assert next_move(here[:1], [LEFT, RIGHT], has_room=False) is None
    assert next_move([member(1, LEFT)], [LEFT, RIGHT], has_room=False) is None


def test_the_only_one_that_serves_stays() -> None:
    here = [member(0, ALL), member(1, LEFT, is_serving=False), member(2, RIGHT, is_serving=False)]
    assert next_move(here, [LEFT, RIGHT], has_room=True) is None
    # Of equals, who serves stays.
    here = [member(0, ALL, is_serving=False), member(1, ALL)]
    assert next_move(here, [ALL], has_room=True) == Drain(0)
    # One that does not serve is no loss.
    here = [member(0, ALL, is_serving=False), member(1, LEFT), member(2, RIGHT, is_serving=False)]
    assert next_move(here, [LEFT, RIGHT], has_room=True) == Drain(0)


def test_the_only_one_stays_whether_it_serves_or_not() -> None:
    assert next_move([member(0, ALL, is_serving=False)], [LEFT], has_room=False) is None


def test_of_equal_shares_the_last_leaves() -> None:
    here = [member(0, ALL), member(1, ALL), member(2, ALL)]
    assert next_move(here, [ALL], has_room=True) == Drain(2)


@given(
    st.lists(st.tuples(st.sampled_from([ALL, LEFT, RIGHT]), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([[ALL], [LEFT, RIGHT], [LEFT, RIGHT, LEFT]]),
    st.integers(2, 9),
)
def test_the_moves_end_at_what_is_wanted(
    start: list[tuple[Share, bool]], wanted: list[Share], num_fitting: int
) -> None:
    here = [member(number, share, is_serving=is_up) for number, (share, is_up) in enumerate(start)]
    was_served = any(one.is_serving for one in here)
    for number in range(20, 40):
        match next_move(here, wanted, has_room=len(here) < max(num_fitting, len(wanted))):
            case Start(share):
                here.append(member(number, share))
            case Drain(leaving):
                here = [one for one in here if one.number != leaving]
            case None:
                # In time they all serve.
                here = [member(one.number, one.share) for one in here]
        assert not was_served or any(one.is_serving for one in here)
    assert sorted(one.share.cores for one in here) == sorted(share.cores for share in wanted)
