"""Who says which servers a model has: a list, and registries that are asked again and again.

Both may be exchanged while they are followed. What was found by entries that went stays until those
that came with the same change have answered: else there would be no server meanwhile.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mm_orch.core.endpoints import Registry
from mm_orch.remote.discovery import Address

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection, Sequence

    from mm_orch.core.endpoints import Endpoints
    from mm_orch.remote.discovery import Discovery

    MakeDiscovery = Callable[[Endpoints, Callable[[frozenset[Address]], None]], Discovery]


class Sources:
    """The entries of one model's ``endpoints``.

    Args:
        fixed: servers that are always meant to be there.
        make_discovery: makes what asks a registry; is given what to tell of its answers.
    """

    def __init__(self, fixed: Collection[Address], make_discovery: MakeDiscovery) -> None:
        self._fixed = frozenset(fixed)
        self._make_discovery = make_discovery
        self._listed: frozenset[Address] = frozenset()
        self._discovery_by_entry: dict[str, Discovery] = {}
        self._task_by_entry: dict[str, asyncio.Task[None]] = {}
        self._found_by_entry: dict[str, frozenset[Address]] = {}
        self._former: frozenset[Address] = frozenset()
        self._awaited: set[str] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._on_news: Callable[[], None] = lambda: None

    @property
    def wanted(self) -> frozenset[Address]:
        """All servers that there are, as far as is known."""
        return self._fixed.union(self._listed, self._former, *self._found_by_entry.values())

    @property
    def discoveries(self) -> Sequence[Discovery]:
        """What asks the registries."""
        return list(self._discovery_by_entry.values())

    @property
    def is_unknown(self) -> bool:
        """Whether a registry has not answered yet, nor has failed to."""
        return any(not one.has_answered and not one.trouble for one in self.discoveries)

    def name(self, entries: Collection[Endpoints]) -> None:
        """Have these say who there is from now on, and no others."""
        is_nobody = Registry.NOBODY
        self._listed = frozenset(Address(e.text) for e in entries if e.registry is is_nobody)
        asked = {one.text: one for one in entries if one.registry is not is_nobody}
        new = asked.keys() - self._discovery_by_entry.keys()
        gone = self._discovery_by_entry.keys() - asked.keys()
        left = frozenset[Address]().union(*[self._leave(text) for text in gone])
        if new:
            self._former |= left
            self._awaited |= new
        for text, entry in asked.items():
            if text not in self._discovery_by_entry:
                told = partial(self._take, text)
                self._discovery_by_entry[text] = self._make_discovery(entry, told)
        self._leave_former()
        self._begin()
        self._on_news()

    def follow(self, tasks: asyncio.TaskGroup, on_news: Callable[[], None]) -> None:
        """Ask the registries as tasks of this group.

        Args:
            tasks: owns what asks.
            on_news: called whenever there may be others than before.
        """
        self._tasks, self._on_news = tasks, on_news
        self._begin()

    def end(self) -> None:
        """Tell of nothing any more; the group's owner ends the tasks."""
        self._tasks, self._on_news = None, lambda: None

    def _begin(self) -> None:
        if self._tasks is None:
            return
        for text, discovery in self._discovery_by_entry.items():
            if text not in self._task_by_entry:
                self._task_by_entry[text] = self._tasks.create_task(
                    discovery.run(), name=f"ask {text}"
                )

    def _leave(self, text: str) -> frozenset[Address]:
        """Ask a registry no more; return what it has told."""
        del self._discovery_by_entry[text]
        if (task := self._task_by_entry.pop(text, None)) is not None:
            task.cancel()
        return self._found_by_entry.pop(text, frozenset())

    def _leave_former(self) -> None:
        """Let those go that no entry names, once all who came in place of theirs have answered."""
        known = self._discovery_by_entry.items()
        self._awaited &= {text for text, one in known if not one.has_answered}
        if not self._awaited:
            self._former = frozenset()

    def _take(self, text: str, found: frozenset[Address]) -> None:
        self._found_by_entry[text] = found
        self._leave_former()
        self._on_news()
