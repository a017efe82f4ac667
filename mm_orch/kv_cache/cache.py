"""Gives sequences their KV blocks, and finds the blocks that hold their beginning already.

Every block is in one of three places, which the self-check counts:

    free  --grow-->  a sequence's own  --commit-->  the prefix tree  --evict-->  free
      ^                    |                         (held or unheld)
      '------ close -------'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from mm_orch.core.errors import EngineFailedError
from mm_orch.kv_cache.prefix_tree import PrefixTree

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from mm_orch.kv_cache.prefix_tree import Node


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache holds and what it was good for.

    Attributes:
        num_blocks: blocks that may be in use; while the bound is being lowered, those that are.
        num_free: blocks of these that hold nothing.
        num_cached: blocks kept for reuse that no sequence uses now.
        num_prompt_tokens: prompt tokens of all sequences begun so far.
        num_reused_tokens: how many of them needed no computing.
        num_evictions: kept blocks given up for new ones so far.
        num_target_blocks: the bound; fewer than ``num_blocks`` while sequences hold more.
        num_allocated_blocks: those that the engine has memory for.
    """

    num_blocks: int
    num_free: int
    num_cached: int
    num_prompt_tokens: int
    num_reused_tokens: int
    num_evictions: int
    num_target_blocks: int = 0
    num_allocated_blocks: int = 0

    @property
    def hit_ratio(self) -> float:
        """Share of prompt tokens that needed no computing."""
        return self.num_reused_tokens / self.num_prompt_tokens if self.num_prompt_tokens else 0.0

    @property
    def use_ratio(self) -> float:
        """Share of the blocks that running sequences use."""
        return 1 - (self.num_free + self.num_cached) / self.num_blocks


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """What opening a sequence would find.

    Attributes:
        num_tokens: tokens that need no computing.
        num_unheld_blocks: blocks among them that count as available until then.
        next_block: stands for the first block that has to be computed, equal for equal beginnings;
            None where it is not whole, or nothing is kept.
    """

    num_tokens: int
    num_unheld_blocks: int
    next_block: Hashable = None


@dataclass(slots=True)
class BlockTable:
    """A sequence's blocks in order: those shared through the tree, then its own.

    Attributes:
        conversation_id: of the conversation that it is a turn of; empty for none.
        is_released: nothing of it is to be kept that only it needs.
    """

    block_ids: list[int] = field(default_factory=list)
    path: list[Node] = field(default_factory=list)
    conversation_id: str = ""
    is_released: bool = False


class KVCache:
    """The blocks of one model.

    INVARIANT: no more blocks are in use than ``num_blocks``, but for those that sequences hold.

    Args:
        num_blocks: how many the engine has memory for.
        block_tokens: tokens in a block.
        policy: what leaves first when memory is short.
        is_reusing: False gives blocks only and keeps nothing.
    """

    def __init__(
        self,
        num_blocks: int,
        block_tokens: int,
        *,
        policy: Literal["lru", "fifo"] = "lru",
        is_reusing: bool = True,
    ) -> None:
        self.block_tokens = block_tokens
        self.num_blocks = num_blocks
        self.num_allocated_blocks = num_blocks
        self.is_reusing = is_reusing
        # Blocks that were used and are free. Those from ``num_touched`` on never were: they are
        # given last, so that their memory is not touched, and cost nothing however many there are.
        self._free: list[int] = []
        self._num_touched = 0
        self._tree = PrefixTree(block_tokens, is_lru=policy == "lru")
        self._tables: dict[str, BlockTable] = {}
        self._num_prompt_tokens = 0
        self._num_reused_tokens = 0
        self._num_evictions = 0

    @property
    def num_available(self) -> int:
        """Blocks that a sequence could get now: free ones, and kept ones that nobody uses.

        Below 0 while sequences hold more than the bound, which was lowered: so many must end first.
        """
        return self._num_free + self._tree.num_unheld

    @property
    def stats(self) -> CacheStats:
        """Counts of now, and since the start."""
        return CacheStats(
            num_blocks=max(self.num_blocks, self._num_used),
            num_free=max(0, self._num_free),
            num_cached=self._tree.num_unheld,
            num_prompt_tokens=self._num_prompt_tokens,
            num_reused_tokens=self._num_reused_tokens,
            num_evictions=self._num_evictions,
            num_target_blocks=self.num_blocks,
            num_allocated_blocks=self.num_allocated_blocks,
        )

    @property
    def num_touched(self) -> int:
        """Blocks that were ever used: their ids are below this."""
        return self._num_touched

    def set_bound(self, num_blocks: int, *, is_reusing: bool) -> None:
        """Bound the blocks in use from now on.

        Kept ones over the bound leave at once, those that sequences hold when these end.

        Args:
            num_blocks: at most ``num_allocated_blocks``, and enough for a sequence of full length.
            is_reusing: False keeps nothing from now on.
        """
        self.num_blocks = num_blocks
        self.is_reusing = is_reusing
        self._trim()

    def compact(self) -> dict[int, int] | None:
        """Give every block in use an id below the bound; None while there are too many.

        Returns:
            The new id of each block that has another now: its keys and values have to follow.
        """
        if self._num_free < 0:
            return None
        nodes = list(self._tree.walk())
        own = [block for t in self._tables.values() for block in t.block_ids[len(t.path) :]]
        used = {*own, *(node.block_id for node in nodes)}
        high = sorted(block for block in used if block >= self.num_blocks)
        moves = dict(
            zip(high, (one for one in range(self.num_blocks) if one not in used), strict=False)
        )
        for node in nodes:
            node.block_id = moves.get(node.block_id, node.block_id)
        for table in self._tables.values():
            table.block_ids[:] = [moves.get(block, block) for block in table.block_ids]
        used = used - moves.keys() | set(moves.values())
        self._num_touched = max(used, default=-1) + 1
        self._free = [one for one in reversed(range(self._num_touched)) if one not in used]
        return moves

    def count_blocks(self, num_tokens: int) -> int:
        """Blocks that so many tokens take."""
        return -(-num_tokens // self.block_tokens)

    def count_freed(self, sequence_id: str) -> int:
        """Blocks that would become available if this sequence were closed."""
        table = self._tables[sequence_id]
        shared = sum(node.num_holders > 1 for node in table.path)
        return len(table.block_ids) - shared

    def find(self, token_ids: Sequence[int]) -> PrefixMatch:
        """Say what of these tokens is kept; always leaves at least one to compute."""
        path = self._find_path(token_ids)
        return PrefixMatch(
            num_tokens=len(path) * self.block_tokens,
            num_unheld_blocks=sum(not node.num_holders for node in path),
            next_block=self._name_next(path, token_ids),
        )

    def name_next_block(self, sequence_id: str, token_ids: Sequence[int]) -> Hashable:
        """Return what stands for the first block that an open sequence has not filled yet."""
        return self._name_next(self._tables[sequence_id].path, token_ids)

    def open(
        self,
        sequence_id: str,
        token_ids: Sequence[int],
        *,
        is_resumed: bool = False,
        conversation_id: str = "",
        is_released: bool = False,
    ) -> tuple[list[int], int]:
        """Begin a sequence with what is kept of its beginning.

        Args:
            sequence_id: no open sequence's.
            token_ids: all that are known.
            is_resumed: it was open before, so its prompt has been counted.
            conversation_id: what :meth:`release_conversation` will call its blocks.
            is_released: the conversation has been released since this turn of it was asked for.

        Returns:
            Its block ids, a list that later calls change in place, and the number of tokens whose
            keys and values lie in them already.
        """
        path = self._find_path(token_ids)
        self._tree.hold(path)
        blocks = [node.block_id for node in path]
        table = BlockTable(blocks, path, conversation_id, is_released)
        self._tables[sequence_id] = table
        num_reused = len(path) * self.block_tokens
        if not is_resumed:
            self._num_prompt_tokens += len(token_ids)
            self._num_reused_tokens += num_reused
        return table.block_ids, num_reused

    def grow(self, sequence_id: str, num_tokens: int) -> None:
        """Give the sequence blocks for so many tokens in all, evicting kept ones where needed.

        Raises:
            EngineFailedError: the caller took more than ``num_available``; nothing is given.
        """
        table = self._tables[sequence_id]
        num_missing = self.count_blocks(num_tokens) - len(table.block_ids)
        if num_missing > max(0, self.num_available):
            raise EngineFailedError(
                f"A sequence needs {num_missing} more KV blocks and {self.num_available} of"
                f" {self.num_blocks} are available."
            )
        for _ in range(num_missing):
            table.block_ids.append(self._take())

    def commit(self, sequence_id: str, token_ids: Sequence[int], num_computed_tokens: int) -> None:
        """Keep the sequence's blocks that are full by now, so that others may use them."""
        if not self.is_reusing:
            return
        table, size = self._tables[sequence_id], self.block_tokens
        for index in range(len(table.path), num_computed_tokens // size):
            parent = table.path[-1] if table.path else None
            key = tuple(token_ids[index * size : (index + 1) * size])
            node, is_new = self._tree.add(parent, key, table.block_ids[index])
            if not is_new:
                # Another sequence has computed the same: one copy is enough.
                self._free.append(table.block_ids[index])
                table.block_ids[index] = node.block_id
            table.path.append(node)

    def close(self, sequence_id: str) -> None:
        """End a sequence: its own blocks become free, shared ones stay while they are kept."""
        table = self._tables.pop(sequence_id)
        # The newest first, so that the lowest numbers are given again first.
        self._free += reversed(table.block_ids[len(table.path) :])
        self._tree.let_go(table.path)
        if table.path and table.is_released:
            self._free += self._tree.prune(table.path[-1])
        elif table.path:
            self._tree.set_end(table.conversation_id, table.path[-1])
        table.block_ids.clear()
        self._trim()

    def release_conversation(self, conversation_id: str) -> int:
        """Free what only this conversation needs, now or when its running turns end.

        Returns:
            How many blocks were freed now; an unknown conversation has none.
        """
        if not conversation_id:
            return 0
        for table in self._tables.values():
            if table.conversation_id == conversation_id:
                table.is_released = True
        freed = self._tree.release(conversation_id)
        self._free += freed
        return len(freed)

    def check(self) -> None:
        """Count every block; cheap enough for whenever nothing runs.

        Raises:
            EngineFailedError: a block is lost, double, or counted wrongly: a defect of ours.
        """
        nodes = list(self._tree.walk())
        own = [block for t in self._tables.values() for block in t.block_ids[len(t.path) :]]
        seen = sorted([*self._free, *own, *(node.block_id for node in nodes)])
        holders = sum(node.num_holders for node in nodes)
        held = sum(len(table.path) for table in self._tables.values())
        unheld = sum(not node.num_holders for node in nodes)
        is_sound = (
            seen == list(range(self._num_touched))
            and holders == held
            and (unheld, len(nodes)) == (self._tree.num_unheld, self._tree.num_nodes)
        )
        if not is_sound:
            raise EngineFailedError(
                f"KV blocks do not add up: {len(self._free)} free, {len(own)} in use and"
                f" {len(nodes)} kept of {self._num_touched} ever used;"
                f" {holders} holders counted, {held} found."
            )

    def _find_path(self, token_ids: Sequence[int]) -> list[Node]:
        if not self.is_reusing:
            return []
        # The last token is always computed: its logits are what the next token is drawn from.
        return self._tree.find(token_ids, (len(token_ids) - 1) // self.block_tokens)

    def _name_next(self, path: list[Node], token_ids: Sequence[int]) -> Hashable:
        begin = len(path) * self.block_tokens
        key = tuple(token_ids[begin : begin + self.block_tokens])
        if not self.is_reusing or len(key) < self.block_tokens:
            return None
        return (path[-1] if path else None, key)

    @property
    def _num_used(self) -> int:
        return self._num_touched - len(self._free)

    @property
    def _num_free(self) -> int:
        return self.num_blocks - self._num_used

    def _trim(self) -> None:
        """Evict what is kept over the bound, or all of it where nothing is to be kept."""
        while self._num_free < 0 or not self.is_reusing:
            block_id = self._tree.evict()
            if block_id is None:
                return
            self._num_evictions += 1
            self._free.append(block_id)

    def _take(self) -> int:
        if self._num_free > 0 and self._free:
            return self._free.pop()
        if self._num_free > 0:
            self._num_touched += 1
            return self._num_touched - 1
        block_id = self._tree.evict()
        if block_id is None:
            raise EngineFailedError("No KV block is left although one was counted as available.")
        self._num_evictions += 1
        return block_id
