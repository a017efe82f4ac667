"""The KV cache under arbitrary interleavings, against what each block was last filled with."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from mm_orch.kv_cache.cache import KVCache

SIZE = 2
# Few letters, so that prompts begin alike.
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=14)
CONVERSATIONS = st.sampled_from(["", "a", "b", "c"])


class CacheMachine(RuleBasedStateMachine):
    """Sequences begin, compute some of their tokens and end; ``slots`` is what KV memory holds."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.tokens: dict[str, list[int]] = {}
        self.blocks: dict[str, list[int]] = {}
        self.num_computed: dict[str, int] = {}
        self.slots: dict[int, tuple[int, ...]] = {}

    names = Bundle("names")

    @initialize(num_blocks=st.integers(7, 20), policy=st.sampled_from(["lru", "fifo"]))
    def begin(self, num_blocks: int, policy: str) -> None:
        self.cache = KVCache(num_blocks, SIZE, policy=policy)  # type: ignore[arg-type]

    @rule(target=names, tokens=TOKENS, conversation_id=CONVERSATIONS)
    def open(self, tokens: list[int], conversation_id: str) -> str:
        name = str(self.number)
        self.number += 1
        self.tokens[name] = tokens
        self.blocks[name], self.num_computed[name] = self.cache.open(
            name, tokens, conversation_id=conversation_id
        )
        assert self.num_computed[name] < len(tokens)
        return name

    @rule(name=names, count=st.integers(1, 14))
    def compute(self, name: str, count: int) -> None:
        if name not in self.tokens:
            return
        tokens, begin = self.tokens[name], self.num_computed[name]
        end = min(len(tokens), begin + count)
        missing = self.cache.count_blocks(end) - len(self.blocks[name])
        if missing > self.cache.num_available:
            return
        self.cache.grow(name, end)
        for position in range(begin, end):
            slot = self.blocks[name][position // SIZE] * SIZE + position % SIZE
            self.slots[slot] = tuple(tokens[: position + 1])
        self.num_computed[name] = end
        self.cache.commit(name, tokens, end)

    @rule(name=consumes(names))
    def close(self, name: str) -> None:
        before, freed = self.cache.num_available, self.cache.count_freed(name)
        self.cache.close(name)
        assert self.cache.num_available == before + freed
        del self.tokens[name], self.blocks[name], self.num_computed[name]

    @rule(conversation_id=CONVERSATIONS)
    def release(self, conversation_id: str) -> None:
        before, num_free = self.cache.num_available, self.cache.stats.num_free
        num_freed = self.cache.release_conversation(conversation_id)
        # Only what could have been had anyway is freed, so nobody loses anything.
        assert self.cache.num_available == before
        assert self.cache.stats.num_free == num_free + num_freed

    @rule(num_blocks=st.integers(7, 24), is_reusing=st.booleans())
    def bound(self, num_blocks: int, is_reusing: bool) -> None:  # noqa: FBT001 - drawn by name
        cache = self.cache
        cache.num_allocated_blocks = max(num_blocks, cache.num_allocated_blocks)
        cache.set_bound(num_blocks, is_reusing=is_reusing)
        if not is_reusing:
            assert cache.stats.num_cached == 0

    @rule()
    def compact(self) -> None:
        moves = self.cache.compact()
        if moves is None:
            assert self.cache.num_available < 0
            return
        assert not moves.keys() & set(moves.values())
        for source, target in moves.items():
            for offset in range(SIZE):
                slot = self.slots.pop(source * SIZE + offset, None)
                if slot is not None:
                    self.slots[target * SIZE + offset] = slot
        # What lies above may be given back.
        num_slots = self.cache.num_blocks * SIZE
        self.slots = {slot: told for slot, told in self.slots.items() if slot < num_slots}
        self.cache.num_allocated_blocks = self.cache.num_blocks

    @invariant()
    def no_more_is_kept_than_the_bound_allows(self) -> None:
        if self.number:
            stats = self.cache.stats
            assert stats.num_cached == 0 or stats.num_blocks <= stats.num_target_blocks
            assert stats.num_target_blocks <= stats.num_allocated_blocks

    @invariant()
    def every_sequence_finds_its_own_tokens(self) -> None:
        for name, tokens in self.tokens.items():
            for position in range(self.num_computed[name]):
                slot = self.blocks[name][position // SIZE] * SIZE + position % SIZE
                assert self.slots[slot] == tuple(tokens[: position + 1])

    @invariant()
    def blocks_add_up(self) -> None:
        if self.number:
            self.cache.check()


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestCache = CacheMachine.TestCase
