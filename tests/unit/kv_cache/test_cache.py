from __future__ import annotations

import pytest

from mm_orch.core.errors import EngineFailedError
from mm_orch.kv_cache.cache import KVCache

SIZE = 4


def run(cache: KVCache, name: str, tokens: list[int]) -> int:
    """Compute one sequence from beginning to end; return how many of its tokens were reused."""
    _, num_reused = cache.open(name, tokens)
    cache.grow(name, len(tokens))
    cache.commit(name, tokens, len(tokens))
    cache.close(name)
    cache.check()
    return num_reused


def test_the_next_turn_of_a_conversation_finds_its_blocks() -> None:
    cache = KVCache(8, SIZE)
    turn = list(range(10))

    assert run(cache, "first", turn) == 0
    assert run(cache, "second", [*turn, 50, 51, 52]) == 8


def test_at_least_one_token_is_always_computed() -> None:
    cache = KVCache(8, SIZE)
    run(cache, "a", list(range(8)))

    assert cache.find(list(range(8))).num_tokens == 4


def test_only_whole_blocks_that_begin_alike_are_shared() -> None:
    cache = KVCache(8, SIZE)
    run(cache, "a", [1, 2, 3, 4, 5, 6, 7, 8, 9])

    assert cache.find([1, 2, 3, 4, 5, 6, 7, 0, 9]).num_tokens == 4
    assert cache.find([0, 2, 3, 4, 5, 6, 7, 8, 9]).num_tokens == 0


def test_two_sequences_that_compute_the_same_keep_one_copy() -> None:
    cache = KVCache(8, SIZE)
    tokens = list(range(9))
    blocks = {name: cache.open(name, tokens)[0] for name in "ab"}
    for name in "ab":
        cache.grow(name, len(tokens))
    assert cache.stats.num_free == 2

    for name in "ab":
        cache.commit(name, tokens, len(tokens))

    assert blocks["a"][:2] == blocks["b"][:2]
    assert blocks["a"][2] != blocks["b"][2]
    assert cache.stats.num_free == 4
    cache.check()


def test_the_least_recently_used_leaves_first() -> None:
    cache = KVCache(2, SIZE, policy="lru")
    run(cache, "a", [1] * 4)
    run(cache, "b", [2] * 4)
    run(cache, "a again", [1] * 4)  # its own block is computed anew, but it counts as use

    run(cache, "c", [3] * 4)

    assert cache.find([1] * 5).num_tokens == 4
    assert cache.find([2] * 5).num_tokens == 0


def test_fifo_evicts_what_was_made_first_however_often_it_was_used() -> None:
    cache = KVCache(3, SIZE, policy="fifo")
    run(cache, "a", [1] * 4)
    run(cache, "b", [2] * 4)
    for number in range(3):
        assert run(cache, f"a{number}", [1] * 5) == 4

    run(cache, "c", [3] * 8)

    assert cache.find([1] * 5).num_tokens == 0
    assert cache.find([2] * 5).num_tokens == 4
    assert cache.stats.num_evictions == 1


def test_a_prefix_outlives_what_follows_it() -> None:
    cache = KVCache(3, SIZE)
    run(cache, "a", list(range(12)))

    run(cache, "b", [9] * 4)

    assert cache.find(list(range(13))).num_tokens == 8


def test_blocks_in_use_are_never_evicted() -> None:
    cache = KVCache(3, SIZE)
    run(cache, "a", [1] * 8)
    cache.open("b", [1] * 9)
    cache.open("c", [5] * 12)
    assert cache.num_available == 1

    with pytest.raises(EngineFailedError, match="needs 3 more KV blocks and 1 of 3"):
        cache.grow("c", 12)

    assert cache.find([1] * 9).num_tokens == 8
    cache.check()


def test_without_reuse_nothing_is_kept() -> None:
    cache = KVCache(8, SIZE, is_reusing=False)

    assert [run(cache, name, list(range(9))) for name in "ab"] == [0, 0]
    assert (cache.stats.num_free, cache.stats.num_cached) == (8, 0)


def test_statistics_count_prompt_tokens_once() -> None:
    cache = KVCache(8, SIZE)
    run(cache, "a", list(range(9)))
    cache.open("b", list(range(10)))
    cache.close("b")
    cache.open("b", list(range(10)), is_resumed=True)

    assert (cache.stats.num_prompt_tokens, cache.stats.num_reused_tokens) == (19, 8)
    assert cache.stats.hit_ratio == 8 / 19
    assert cache.stats.use_ratio == 2 / 8


def test_the_self_check_finds_a_lost_block() -> None:
    cache = KVCache(8, SIZE)
    cache._free.pop()

    with pytest.raises(EngineFailedError, match="do not add up: 7 free"):
        cache.check()
