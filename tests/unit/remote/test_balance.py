"""Which of several servers takes a request."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.remote.balance import Load, PowerOfTwo

LOADS = st.lists(
    st.builds(Load, num_requests=st.integers(0, 50), num_tokens=st.integers(0, 10**6)),
    min_size=1,
    max_size=20,
)


@given(loads=LOADS, seed=st.integers(0, 2**32))
def test_the_one_with_most_to_do_is_never_chosen_before_another(
    loads: list[Load], seed: int
) -> None:
    chosen = PowerOfTwo(random.Random(seed)).choose(loads)  # noqa: S311 - a test's seed

    others = [load.rank for index, load in enumerate(loads) if index != chosen]
    assert not others or loads[chosen].rank <= max(others)


def test_requests_that_never_end_are_shared_evenly() -> None:
    balancer = PowerOfTwo(random.Random(1))  # noqa: S311 - a test's seed
    num_by_server: Counter[int] = Counter()
    for _ in range(1000):
        loads = [Load(num_by_server[n], 100 * num_by_server[n]) for n in range(10)]
        num_by_server[balancer.choose(loads)] += 1

    # Drawn at random alone, the fullest of ten would have some thirty more than its share.
    assert max(num_by_server.values()) <= 100 + 4
    assert min(num_by_server.values()) >= 100 - 10
