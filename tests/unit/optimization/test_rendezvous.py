"""In which order the members of a group are looked at for a key."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.replicas.rendezvous import rank

MEMBERS = {number: f"http://gpu-{number}:8000" for number in range(5)}


@given(st.text(), st.permutations(list(MEMBERS)), st.sampled_from(list(MEMBERS)))
def test_all_agree_and_where_one_leaves_the_others_keep_their_order(
    key: str, order: list[int], left: int
) -> None:
    # Another server in front has found them in another order and numbers them its own way.
    elsewhere = {100 + number: MEMBERS[number] for number in order}
    ranked = rank(key, MEMBERS)

    assert [number - 100 for number in rank(key, elsewhere)] == ranked
    rest = {number: one for number, one in MEMBERS.items() if number != left}
    assert rank(key, rest) == [number for number in ranked if number != left]


def test_the_order_is_the_same_in_every_process_and_version() -> None:
    assert rank("one", MEMBERS) == [0, 3, 1, 4, 2]
    assert rank("two", MEMBERS) == [4, 3, 0, 2, 1]


def test_keys_are_spread_over_all() -> None:
    firsts = Counter(rank(f"conversation {number}", MEMBERS)[0] for number in range(1000))
    assert set(firsts) == set(MEMBERS)
    assert min(firsts.values()) >= 150
    assert max(firsts.values()) <= 250
