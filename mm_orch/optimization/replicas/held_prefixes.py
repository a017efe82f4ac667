"""What one replica is believed to hold of past prompts: its prefix tree, seen from outside.

The tree is that of the worker's cache, one node a block of tokens. A node is known by the name of
its block, which says all blocks before it as well, so a path needs no edges to be followed:

    prompt   [ block 0 ][ block 1 ][ block 2 ]
    names      n0         n1         n2          n1 = hash(n0, tokens of block 1)
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_TOKENS = 16
"""Tokens of a block here. Engines' own blocks may be larger: that misjudges a block at most."""

BYTES_PER_TOKEN = 4
"""What an id takes as bytes, and about what an English token takes as text."""

_ROOT = 0


def name_blocks(token_ids: Sequence[int]) -> tuple[int, ...]:
    """Return a name for each whole block of a prompt; equal ones mean equal tokens up to there.

    Two prompts whose names meet by chance are sent to one replica, and nothing worse.
    """
    # As bytes, the blocks of a long prompt are named within a millisecond.
    return name_text_blocks(array("I", token_ids).tobytes())


def name_text_blocks(text: bytes) -> tuple[int, ...]:
    """Return the same of a prompt whose tokens are not known: four bytes stand for a token.

    Args:
        text: in UTF-8, with whatever else makes two prompts differ.
    """
    num_bytes = BLOCK_TOKENS * BYTES_PER_TOKEN
    names, name = [], _ROOT
    for begin in range(0, len(text) - num_bytes + 1, num_bytes):
        name = hash((name, text[begin : begin + num_bytes]))
        names.append(name)
    return tuple(names)


def count_text_tokens(text: bytes) -> int:
    """Return for how many tokens a text stands, by the measure of :func:`name_text_blocks`."""
    return -(-len(text) // BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Held:
    """What a replica holds of a prompt.

    Attributes:
        num_tokens: from its beginning.
        is_own: it goes on where an earlier prompt ended, or repeats one: nobody else's prompts go
            on from there. A beginning that many share, such as a system prompt, is not its own.
        used_at: which of the replica's prompts used the last of these tokens last, counted from 1.
    """

    num_tokens: int
    is_own: bool
    used_at: int = 0


NOTHING_HELD = Held(0, is_own=False)


@dataclass(slots=True)
class _Block:
    parent: int
    num_children: int = 0
    used_at: int = 0


class HeldPrefixes:
    """The blocks of one replica; the least recently used leave first, leaves before their parents.

    INVARIANT: a block is younger than its children, so the oldest one has none.

    Args:
        max_tokens: what the replica's KV memory holds.

    Attributes:
        num_prompts: that were added, those whose blocks have left too.
    """

    def __init__(self, max_tokens: int) -> None:
        self.num_prompts = 0
        self._max_blocks = max_tokens // BLOCK_TOKENS
        # The least recently used first.
        self._block_by_name: OrderedDict[int, _Block] = OrderedDict()

    @property
    def num_tokens(self) -> int:
        """Tokens of all blocks."""
        return len(self._block_by_name) * BLOCK_TOKENS

    def bound(self, max_tokens: int) -> None:
        """Hold no more than so many tokens from now on."""
        self._max_blocks = max_tokens // BLOCK_TOKENS
        self._evict()

    def find(self, names: Sequence[int]) -> Held:
        """Return what of a prompt with these blocks is held."""
        known = self._block_by_name
        num_blocks = sum(1 for _ in takewhile(known.__contains__, names))
        if num_blocks == 0:
            return NOTHING_HELD
        last = known[names[num_blocks - 1]]
        is_own = num_blocks == len(names) or last.num_children == 0
        return Held(num_blocks * BLOCK_TOKENS, is_own, last.used_at)

    def add(self, names: Sequence[int]) -> None:
        """Note that the replica computes a prompt with these blocks, or finds them."""
        known, parent = self._block_by_name, _ROOT
        self.num_prompts += 1
        names = names[: self._max_blocks]
        for name in names:
            if name not in known:
                known[name] = _Block(parent)
                if parent in known:
                    known[parent].num_children += 1
            parent = name
        # The first block last: it is in use whenever a later one is.
        for name in reversed(names):
            known.move_to_end(name)
            known[name].used_at = self.num_prompts
        self._evict()

    def forget(self, used_at: int) -> None:
        """Drop what no prompt has used since this one, of ``Held.used_at``."""
        known = self._block_by_name
        while known and next(iter(known.values())).used_at <= used_at:
            self._drop_oldest()

    def _evict(self) -> None:
        while len(self._block_by_name) > self._max_blocks:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        known = self._block_by_name
        _, oldest = known.popitem(last=False)
        if (parent := known.get(oldest.parent)) is not None:
            parent.num_children -= 1
