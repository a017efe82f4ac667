"""Where what worked at each level of load is kept: in a file, or with other servers'."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.errors import OverloadError, StorageError
from mm_orch.core.whole_files import write_whole
from mm_orch.tuning.load import LoadLevel
from mm_orch.tuning.memory import TuningMemory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from mm_orch.storage.shared_state import SharedState
    from mm_orch.tuning.knobs import Setting

logger = logging.getLogger(__name__)


class KeptMemory(Protocol):
    """A memory that outlasts the process."""

    @property
    def memory(self) -> TuningMemory:
        """What is remembered: the same object for ever."""

    async def exchange(self) -> None:
        """Keep what has changed since the last time, and take what others have found."""


class FileMemory:
    """Kept in a file that may be deleted at any time; read when this is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.memory = load_memory(path)
        self._saved = self.memory.encode()

    async def exchange(self) -> None:
        """See KeptMemory."""
        content = self.memory.encode()
        if content == self._saved:
            return
        try:
            await asyncio.to_thread(write_whole, self._path, content)
        except OSError as error:
            logger.warning("tuner: what worked cannot be kept in %s: %s", self._path, error)
        # Tried again with the next change.
        self._saved = content


class TuningStore(Protocol):
    """Keeps what several tuners have found, by rate and concurrency."""

    async def exchange(
        self,
        changed: Mapping[tuple[int, int], Mapping[str, int]],
        forgotten: Collection[tuple[int, int]],
    ) -> dict[tuple[int, int], dict[str, int]]:
        """Store what has changed, and return all; raises StorageError, OverloadError."""


class SharedMemory:
    """Kept with that of other servers; what one of them has found helps all."""

    def __init__(self, store: TuningStore) -> None:
        self._store = store
        self.memory = TuningMemory()
        self._known: dict[LoadLevel, Setting] = {}

    async def exchange(self) -> None:
        """See KeptMemory."""
        now = self.memory.settings
        changed = {
            (level.rate, level.concurrency): one
            for level, one in now.items()
            if self._known.get(level) != one
        }
        forgotten = [(level.rate, level.concurrency) for level in self._known.keys() - now.keys()]
        try:
            stored = await self._store.exchange(changed, forgotten)
        except (StorageError, OverloadError) as error:
            logger.warning("tuner: what worked is not shared now: %s", error)
            return
        self.memory.replace({LoadLevel(*level): one for level, one in stored.items()})
        self._known = self.memory.settings


def find_memory(shared: SharedState | None, path: Path) -> KeptMemory:
    """Return the memory that servers share; the file's where there is none."""
    return FileMemory(path) if shared is None else SharedMemory(shared.tuning)


def load_memory(path: Path) -> TuningMemory:
    """Read the file; one that is missing or unreadable is started anew, and that is logged."""
    try:
        return TuningMemory.decode(path.read_bytes())
    except FileNotFoundError:
        logger.info("tuner: nothing is remembered yet (no %s)", path)
    except (OSError, ValueError) as error:
        logger.warning("tuner: starting anew, as %s cannot be read: %s", path, error)
    return TuningMemory()
