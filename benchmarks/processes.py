"""Watches the memory and the descriptors of a server and of all that it has started."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from benchmarks.slopes import Series

if TYPE_CHECKING:
    from collections.abc import Callable

SERVER = "server"
"""The name of the server's own process among those that are watched."""

OTHER = "other"
"""The name of processes that are neither the server nor a worker of a model."""

_MIB = 1 << 20


@dataclass(slots=True)
class Life:
    """One process, for as long as it was seen.

    Attributes:
        name: SERVER, OTHER or the model whose worker it is.
        points: times, with resident memory in MiB.
        num_fds: open descriptors when it was seen last.
    """

    name: str
    points: list[tuple[float, float]] = field(default_factory=list)
    num_fds: int = 0

    @property
    def memory(self) -> Series:
        """Resident memory in MiB."""
        return Series.of(self.points)

    @property
    def birth_s(self) -> float:
        """When it was seen first."""
        return self.points[0][0]

    @property
    def age_s(self) -> float:
        """From when it was seen first to when it was seen last."""
        return self.points[-1][0] - self.birth_s


class ProcessWatch:
    """Keeps what is seen of a server's processes, the ended ones too.

    Args:
        pid: of the server.
        find_workers: gives the model of each worker by its number; it may block.
    """

    def __init__(self, pid: int, find_workers: Callable[[], dict[int, str]]) -> None:
        self._root = psutil.Process(pid)
        self._find_workers = find_workers
        self._life_by_pid: dict[int, Life] = {}
        self.lives: list[Life] = []

    async def watch(self, interval_s: float) -> None:
        """Look every so often, until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(interval_s)

    def look(self) -> dict[int, Life]:
        """Look once; return the processes that live now, by their numbers."""
        now_s = time.monotonic()
        living = {process.pid: process for process in self._tree()}
        self._name(living)
        found: dict[int, Life] = {}
        for pid, process in living.items():
            try:
                rss, num_fds = process.memory_info().rss, process.num_fds()
            except psutil.Error:  # it has ended meanwhile
                continue
            life = self._life_by_pid[pid]
            if not life.points:
                self.lives.append(life)
            life.points.append((now_s, rss / _MIB))
            life.num_fds = num_fds
            found[pid] = life
        return found

    def living(self) -> list[Life]:
        """Return the processes that lived at the last look."""
        return [life for life in self._life_by_pid.values() if life.points]

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []

    def _name(self, living: dict[int, psutil.Process]) -> None:
        """Give new processes their lives, and workers the names of their models."""
        for pid in self._life_by_pid.keys() - living.keys():
            # A number may come again.
            del self._life_by_pid[pid]
        for pid in living.keys() - self._life_by_pid.keys():
            self._life_by_pid[pid] = Life(SERVER if pid == self._root.pid else OTHER)
        unnamed = [life for life in self._life_by_pid.items() if life[1].name == OTHER]
        if unnamed:
            try:
                models = self._find_workers()
            except OSError:  # asked again at the next look
                return
            for pid, life in unnamed:
                life.name = models.get(pid, OTHER)
