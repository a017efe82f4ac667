from __future__ import annotations

import pytest

from mm_orch.core.errors import EngineFailedError
from mm_orch.kv_cache.cache import KVCache

SIZE = 4


def run(cache: KVCache, name: str, tokens: list[int], *, conversation: str = "") -> int:
    """Compute one sequence from beginning to end; return how many of its tokens were reused."""
    _, num_reused = cache.open(name, tokens, conversation_id=conversation)
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
    run(cache, "a", [1, 2, 3, 4, 5])
    # One block is kept; this is the other.
    cache._free.pop()

    with pytest.raises(EngineFailedError, match="do not add up: 0 free"):
        cache.check()


def test_a_released_conversation_leaves_nothing_but_what_others_share() -> None:
    cache = KVCache(20, SIZE)
    system = [1, 2, 3, 4]
    run(cache, "a1", [*system, *range(10, 18)], conversation="a")
    run(cache, "b1", [*system, *range(20, 24)], conversation="b")
    run(cache, "a2", [*system, *range(10, 26)], conversation="a")
    assert cache.stats.num_cached == 6

    assert cache.release_conversation("a") == 4

    assert cache.find([*system, *range(10, 18)]).num_tokens == 4
    assert cache.find([*system, *range(20, 24), 0]).num_tokens == 8
    assert cache.release_conversation("a") == 0
    assert cache.release_conversation("b") == 2
    assert cache.stats.num_free == 20
    cache.check()


def test_several_answers_of_one_turn_are_released_together() -> None:
    cache = KVCache(20, SIZE)
    for last in range(3):
        run(cache, str(last), [1, 2, 3, 4, last, last, last, last, 9], conversation="c")
    assert cache.stats.num_cached == 4

    assert cache.release_conversation("c") == 4


def test_a_conversation_released_while_it_runs_leaves_when_it_ends() -> None:
    cache = KVCache(20, SIZE)
    tokens = list(range(9))
    cache.open("a", tokens, conversation_id="c")
    cache.grow("a", 9)
    cache.commit("a", tokens, 9)

    assert cache.release_conversation("c") == 0
    assert cache.stats.num_free == 17
    cache.close("a")

    assert cache.stats.num_free == 20
    cache.check()


def test_a_conversation_whose_end_was_evicted_is_released_up_to_there() -> None:
    cache = KVCache(4, SIZE)
    run(cache, "a", list(range(12)), conversation="a")
    # Takes the free block and the two that lie deepest.
    run(cache, "b", list(range(20, 31)))
    assert cache.find(list(range(12))).num_tokens == 4

    assert cache.release_conversation("a") == 1
    assert cache.find(list(range(12))).num_tokens == 0
    cache.check()


def test_no_more_conversations_are_remembered_than_blocks_kept() -> None:
    cache = KVCache(8, SIZE)
    for number in range(50):
        run(cache, str(number), [1, 2, 3, 4, 5], conversation=f"c{number}")

    # All of them ended with the one block; only the last still has a claim to it.
    assert cache.release_conversation("c10") == 0
    assert cache.release_conversation("c49") == 1


def test_the_next_block_is_the_same_for_the_same_beginning_only() -> None:
    cache = KVCache(8, SIZE)
    run(cache, "a", [1, 2, 3, 4, 5])

    first = cache.find([1, 2, 3, 4, 5, 6, 7, 8, 9]).next_block
    assert first == cache.find([1, 2, 3, 4, 5, 6, 7, 8, 0]).next_block
    assert first != cache.find([5, 6, 7, 8, 9]).next_block
    assert cache.find([1, 2, 3, 4, 5, 6]).next_block is None
    assert KVCache(8, SIZE, is_reusing=False).find([1, 2, 3, 4, 5]).next_block is None


def test_what_others_left_without_a_name_stays() -> None:
    cache = KVCache(20, SIZE)
    system = [1, 2, 3, 4]
    run(cache, "x", [*system, 9])
    run(cache, "a", [*system, *range(10, 18)], conversation="a")

    assert cache.release_conversation("a") == 2

    assert cache.find([*system, 0]).num_tokens == 4


def test_a_pool_costs_nothing_before_it_is_used() -> None:
    cache = KVCache(10**15, SIZE)

    assert run(cache, "a", list(range(9))) == 0
    assert cache.stats.num_free == 10**15 - 2
    assert cache.num_available == 10**15
