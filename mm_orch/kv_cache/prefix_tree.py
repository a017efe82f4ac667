r"""The blocks whose keys and values are kept for reuse, as a radix tree over token blocks.

An edge is one block of token ids, so a path from the root spells the beginning of a prompt:

    root -(Once upon a time,)- 7 -( there was a king)- 3
                                \-( there lived two)- 9      block 7 serves both prompts
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MIN_COMPACTED_LENGTH = 64


@dataclass(slots=True, eq=False)
class Node:
    """One kept block.

    INVARIANT: whoever holds a node holds all its ancestors; so what nobody holds can leave,
    leaf by leaf.

    Attributes:
        key: the block's token ids.
        num_holders: sequences that use the block now.
        stamp: when it was made (FIFO) or last let go (LRU); the smallest leaves first.
        conversations: those whose last turn ended here.
        has_unnamed_end: something that is no conversation's ended here.
    """

    block_id: int
    key: tuple[int, ...]
    parent: Node | None
    stamp: int = 0
    num_holders: int = 0
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)
    has_unnamed_end: bool = False

    @property
    def is_evictable(self) -> bool:
        """Whether it is a leaf that nobody uses."""
        return not self.num_holders and not self.children


class PrefixTree:
    """Finds, keeps and evicts blocks by the token ids that lead to them.

    Args:
        block_tokens: tokens in a block.
        is_lru: evict what was used longest ago; else what was made first.
    """

    def __init__(self, block_tokens: int, *, is_lru: bool) -> None:
        self._block_tokens = block_tokens
        self._is_lru = is_lru
        self._root = Node(block_id=-1, key=(), parent=None)
        self._clock = 0
        self._num_nodes = 0
        self._num_unheld = 0
        # Where each conversation's turns ended, the longest known first.
        self._ends: dict[str, set[Node]] = {}
        # (stamp, push number, node): entries whose node has moved on are skipped when popped.
        self._evictable: list[tuple[int, int, Node]] = []

    @property
    def num_nodes(self) -> int:
        """Blocks kept, in use or not."""
        return self._num_nodes

    @property
    def num_unheld(self) -> int:
        """Blocks kept that nobody uses: all of them can be evicted."""
        return self._num_unheld

    def find(self, token_ids: Sequence[int], max_blocks: int) -> list[Node]:
        """Return the nodes of the longest known beginning, at most ``max_blocks`` of them."""
        node, path = self._root, []
        for begin in range(0, max_blocks * self._block_tokens, self._block_tokens):
            child = node.children.get(tuple(token_ids[begin : begin + self._block_tokens]))
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def hold(self, nodes: Iterable[Node]) -> None:
        """Count one more user of each node."""
        for node in nodes:
            self._num_unheld -= not node.num_holders
            node.num_holders += 1

    def let_go(self, path: Sequence[Node]) -> None:
        """Count one user less of each node of a path; from then on LRU counts its age."""
        self._clock += 1
        for node in reversed(path):
            node.num_holders -= 1
            self._num_unheld += not node.num_holders
            if self._is_lru:
                node.stamp = self._clock
            self._offer(node)

    def add(self, parent: Node | None, key: tuple[int, ...], block_id: int) -> tuple[Node, bool]:
        """Keep a block under its parent (None: the root), held once by the caller.

        Returns:
            The node, and whether it is new. Where the same tokens are kept already, that node is
            held and returned, and the caller's block stays the caller's.
        """
        parent = parent or self._root
        node = parent.children.get(key)
        if node is not None:
            self.hold([node])
            return node, False
        self._clock += 1
        node = Node(block_id=block_id, key=key, parent=parent, stamp=self._clock, num_holders=1)
        parent.children[key] = node
        self._num_nodes += 1
        return node, True

    def evict(self) -> int | None:
        """Forget the leaf that the policy names and return its block; None when all are in use."""
        while self._evictable:
            stamp, _, node = heappop(self._evictable)
            if node.is_evictable and node.stamp == stamp and node.parent is not None:
                return self._remove(node)
        return None

    def set_end(self, conversation_id: str, node: Node) -> None:
        """Note that a turn of this conversation (empty: of none) ended with this node.

        No more conversations are known than there are nodes; the one that has been silent longest
        is forgotten first, and its blocks are then evicted like any other's.
        """
        if not conversation_id:
            node.has_unnamed_end = True
            return
        ends = self._ends.pop(conversation_id, set())
        ancestor = node.parent
        while ancestor is not None:
            if ancestor in ends:
                ends.discard(ancestor)
                ancestor.conversations.discard(conversation_id)
            ancestor = ancestor.parent
        ends.add(node)
        node.conversations.add(conversation_id)
        self._ends[conversation_id] = ends
        while len(self._ends) > self._num_nodes:
            silent = next(iter(self._ends))
            for end in self._ends.pop(silent):
                end.conversations.discard(silent)

    def release(self, conversation_id: str) -> list[int]:
        """Forget a conversation; return the blocks that nothing else needs, freed."""
        freed = []
        for end in self._ends.pop(conversation_id, set()):
            end.conversations.discard(conversation_id)
            freed += self.prune(end)
        return freed

    def prune(self, node: Node | None) -> list[int]:
        """Free a branch from its tip up to where another begins, ends or is in use."""
        freed = []
        while node is not None and node.parent is not None:
            if not node.is_evictable or node.conversations or node.has_unnamed_end:
                break
            parent = node.parent
            freed.append(self._remove(node))
            node = parent
        return freed

    def walk(self) -> Iterator[Node]:
        """Yield every node, parents before children."""
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            yield node
            stack += node.children.values()

    def _remove(self, node: Node) -> int:
        parent = node.parent
        if parent is not None:
            del parent.children[node.key]
            node.parent = None
            self._move_ends(node, parent)
            self._offer(parent)
        self._num_nodes -= 1
        self._num_unheld -= 1
        return node.block_id

    def _move_ends(self, node: Node, parent: Node) -> None:
        """Let conversations end with the parent of a node that leaves; at the root they end."""
        parent.has_unnamed_end |= node.has_unnamed_end
        for conversation_id in node.conversations:
            ends = self._ends[conversation_id]
            ends.discard(node)
            if parent is not self._root:
                ends.add(parent)
                parent.conversations.add(conversation_id)
            elif not ends:
                del self._ends[conversation_id]
        node.conversations.clear()

    def _offer(self, node: Node) -> None:
        if node is self._root or not node.is_evictable:
            return
        if len(self._evictable) > 2 * self._num_nodes + _MIN_COMPACTED_LENGTH:
            self._evictable = [
                entry
                for entry in self._evictable
                if entry[2].is_evictable
                and entry[2].stamp == entry[0]
                and entry[2].parent is not None
            ]
            heapify(self._evictable)
        self._clock += 1
        heappush(self._evictable, (node.stamp, self._clock, node))
