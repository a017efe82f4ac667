"""Hands the facts that the path states to all who want them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.core.events import Event, Observer

logger = logging.getLogger(__name__)


class ObserverFanOut:
    """Hands each event to every observer; one that fails is logged and never hurts the path."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def add(self, observers: Sequence[Observer]) -> None:
        """Hand what comes from now on to these too."""
        self._observers = (*self._observers, *observers)

    def observe(self, event: Event) -> None:
        """Give the event to all observers in order."""
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception:  # boundary: monitoring never fails a request
                logger.exception("observer %s failed on %s", observer, type(event).__name__)
