"""What a simulated replica keeps for reuse, in whole beginnings in place of blocks.

A session's kept tokens stand behind those of its group, as in the radix tree: where the group's
have left, the session's are of no use. Who was let go longest ago leaves first, its last tokens
before its first ones; a group's leave together.
"""

from __future__ import annotations

from collections import OrderedDict


def group_key(group: int) -> int:
    """Return a group's key, which no session has."""
    return -1 - group


class PrefixCache:
    """Token counts by beginning: a session's number, or below 0 a group's.

    INVARIANT: what somebody holds does not leave.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        """Kept, held or not."""
        self.num_unheld = 0
        """Of these, what nobody holds: all of it can be evicted."""
        self._sizes: dict[int, int] = {}
        self._holders: dict[int, int] = {}
        # The first was let go longest ago.
        self._unheld: OrderedDict[int, None] = OrderedDict()

    def count(self, key: int) -> int:
        """Return the tokens kept of a beginning; 0 for none."""
        return self._sizes.get(key, 0)

    def is_held(self, key: int) -> bool:
        """Whether somebody uses it now."""
        return key in self._holders

    def hold(self, key: int) -> None:
        """Count one more user of a kept beginning."""
        if key in self._holders:
            self._holders[key] += 1
            return
        self._holders[key] = 1
        del self._unheld[key]
        self.num_unheld -= self._sizes[key]

    def let_go(self, key: int) -> None:
        """Count one user less."""
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self._unheld[key] = None
            self.num_unheld += self._sizes[key]

    def keep(self, key: int, num_tokens: int) -> None:
        """Keep so many tokens of a beginning that nobody holds, as the newest."""
        change = num_tokens - self._sizes.pop(key, 0)
        self._unheld.pop(key, None)
        self.num_tokens += change
        self.num_unheld += change
        if num_tokens:
            self._sizes[key] = num_tokens
            self._unheld[key] = None

    def evict(self, num_tokens: int) -> None:
        """Give up so many tokens, or all that nobody holds."""
        while num_tokens > 0 and self._unheld:
            key = next(iter(self._unheld))
            size = self._sizes[key]
            num_gone = min(size, num_tokens) if key >= 0 else size
            if num_gone == size:
                del self._unheld[key], self._sizes[key]
            else:
                self._sizes[key] = size - num_gone
            self.num_tokens -= num_gone
            self.num_unheld -= num_gone
            num_tokens -= num_gone
