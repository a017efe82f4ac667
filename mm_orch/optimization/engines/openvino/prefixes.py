"""Counts how many of a prompt's tokens OpenVINO GenAI surely takes from its cache.

GenAI does not tell. It keeps every block of KV memory until another sequence needs the place, the
one allocated or taken longest ago first, and looks a prompt's blocks up when the sequence is added.
So a block is surely there as long as fewer blocks have been allocated since than there are beside
those in use. What is counted here is never more than what is taken; it may be less by the part of
a block, or when memory is nearly full.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(slots=True)
class _Growing:
    """A sequence that runs.

    Attributes:
        token_ids: those whose keys and values are computed or about to be.
        name: of all tokens up to the last whole block that is known to be computed.
        num_named: blocks up to there.
        ages: for each block, how many had been allocated in the pool before it.
    """

    token_ids: list[int]
    name: int = 0
    num_named: int = 0
    ages: list[int] = field(default_factory=list)


class PrefixCounter:
    """Follows the blocks of one pool.

    Args:
        num_blocks: of the pool.
        block_tokens: tokens of a block.
        max_running: most sequences that run at once.
    """

    def __init__(self, num_blocks: int, block_tokens: int, max_running: int) -> None:
        # Each may be about to take a block, and warming up has left one.
        self._num_sure = num_blocks - max_running - 1
        self._block_tokens = block_tokens
        self._num_allocated = 0
        self._num_used = 0
        self._running: dict[str, _Growing] = {}
        self._age_by_name: OrderedDict[int, int] = OrderedDict()

    def add(self, sequence_id: str, token_ids: Sequence[int]) -> int:
        """Take a sequence that is added to GenAI now; return its tokens that are surely cached.

        One token is always computed.
        """
        growing = self._running[sequence_id] = _Growing(list(token_ids))
        num_cached = 0
        for name in self._names(growing.token_ids):
            age = self._age_by_name.get(name)
            if age is None or self._num_allocated - age + self._num_used > self._num_sure:
                break
            self._remember(name, self._num_allocated)
            num_cached += self._block_tokens
        self._grow(growing)
        return min(num_cached, len(token_ids) - 1)

    def extend(self, sequence_id: str, token_ids: Sequence[int]) -> None:
        """Take new tokens of a sequence: all before them are computed."""
        growing = self._running[sequence_id]
        for name in self._names(growing.token_ids, growing.num_named, growing.name):
            self._remember(name, growing.ages[growing.num_named])
            growing.num_named += 1
            growing.name = name
        growing.token_ids.extend(token_ids)
        self._grow(growing)

    def remove(self, sequence_id: str) -> None:
        """Let go of a sequence that has ended; its blocks stay until their place is needed."""
        growing = self._running.pop(sequence_id, None)
        if growing is not None:
            self._num_used -= len(growing.ages)

    def _grow(self, growing: _Growing) -> None:
        num_new = -(-len(growing.token_ids) // self._block_tokens) - len(growing.ages)
        growing.ages.extend([self._num_allocated] * num_new)
        self._num_allocated += num_new
        self._num_used += num_new
        if self._num_used > self._num_sure:
            # Sequences may be put off and computed again later: nothing is sure any more.
            self._age_by_name.clear()

    def _remember(self, name: int, age: int) -> None:
        self._age_by_name[name] = max(age, self._age_by_name.get(name, 0))
        self._age_by_name.move_to_end(name)
        while len(self._age_by_name) > max(0, self._num_sure):
            self._age_by_name.popitem(last=False)

    def _names(self, token_ids: list[int], num_named: int = 0, name: int = 0) -> Iterator[int]:
        """Yield a name for each whole block, that says which tokens lie in it and before it."""
        size = self._block_tokens
        for begin in range(num_named * size, len(token_ids) - size + 1, size):
            name = hash((name, *token_ids[begin : begin + size]))
            yield name
