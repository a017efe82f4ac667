"""Which servers there are: asks who knows it, again and again, and tells what it has learned.

What cannot be asked now changes nothing: the servers that were found last stay. Only an answer that
names no server makes them leave.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where one server listens.

    Attributes:
        url: its base, with or without /v1.
        server_name: the name that it is asked by and that its certificate must have, where the URL
            holds an IP address; empty for the URL's own.
    """

    url: str
    server_name: str = ""


class DiscoveryError(Exception):
    """It cannot be learned now which servers there are; says why."""


class Finder(Protocol):
    """Asks one registry for servers."""

    @property
    def name(self) -> str:
        """What is asked for, as the configuration has it."""

    async def find(self) -> frozenset[Address]:
        """Return all servers that there are now.

        Raises:
            DiscoveryError: they cannot be learned.
        """

    async def wait(self, interval_s: float) -> None:
        """Return when it is time to ask again: after this time, or as soon as something changes."""


class Discovery:
    """Keeps asking one registry.

    Args:
        finder: asks it.
        interval_s: between two answers, and before a failed question is asked again.
        on_news: given the servers whenever they are others than before, or have become known.

    Attributes:
        trouble: why the last question has failed; empty when it has not.
        has_answered: whether it ever has.
    """

    def __init__(
        self, finder: Finder, *, interval_s: float, on_news: Callable[[frozenset[Address]], None]
    ) -> None:
        self.name = finder.name
        self.trouble = ""
        self.has_answered = False
        self._finder = finder
        self._interval_s = interval_s
        self._on_news = on_news
        self._known: frozenset[Address] = frozenset()

    async def run(self) -> None:
        """Ask until cancelled; whatever is answered, it is asked again."""
        while True:
            try:
                await self._ask()
                await self._finder.wait(self._interval_s)
            except Exception as error:  # boundary: no odd answer ends the server
                if not isinstance(error, DiscoveryError):
                    logger.exception("%s cannot be followed", self.name)
                self._note(str(error) or type(error).__name__)
                await asyncio.sleep(self._interval_s)

    async def _ask(self) -> None:
        found = await self._finder.find()
        self._note("")
        self._take(found)

    def _take(self, found: frozenset[Address]) -> None:
        if self.has_answered and found == self._known:
            return
        self.has_answered, self._known = True, found
        self._on_news(found)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            logger.warning("%s cannot be asked for servers: %s", self.name, trouble)
        elif self.trouble and not trouble:
            logger.info("%s can be asked for servers again", self.name)
        was_unknown = not self.has_answered and trouble != self.trouble
        self.trouble = trouble
        if was_unknown and trouble:
            # Who waits for the first answer learns that there is none.
            self._on_news(self._known)
