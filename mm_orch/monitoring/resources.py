"""Reads every few seconds what the machine has and uses, beside the event loop."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from mm_orch.core.events import ErrorOccurred, ResourcesRead
from mm_orch.core.memory import read_memory
from mm_orch.core.threads import start_abandonable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mm_orch.core.events import Observer
    from mm_orch.core.memory import Memory
    from mm_orch.gpus.watch import GpuWatch

FIRST_INTERVAL_S = 5.0
_COMPONENT = "monitoring"
_HOST = "the machine's resources"
_GPUS = "the GPUs"
# Time in a guest is in the user's time as well; waiting for a disk is no work.
_COUNTED_TWICE = ("guest", "guest_nice")
_NOT_BUSY = ("idle", "iowait")

logger = logging.getLogger(__name__)


class HostReader:
    """Reads processors and memory; may block, so it belongs in a thread.

    Args:
        memory: gives what this process can use.
        cpu_times: gives the seconds that all processors together spent, by kind, since boot.
    """

    def __init__(
        self,
        *,
        memory: Callable[[], Memory] = read_memory,
        cpu_times: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._memory = memory
        self._cpu_times = cpu_times or _read_cpu_times
        self._last: Mapping[str, float] | None = None

    def read(self) -> ResourcesRead:
        """Return what is used now, without GPUs; of the processors, since the last reading.

        The first has nothing to compare with, so it says nothing of the processors.

        Raises:
            OSError: the system does not tell.
            psutil.Error: the same.
        """
        memory = self._memory()
        return ResourcesRead(
            cpu_percent=self._read_cpu_percent(),
            memory_used_bytes=memory.used_bytes,
            memory_total_bytes=memory.total_bytes,
        )

    def _read_cpu_percent(self) -> float | None:
        # psutil.cpu_percent remembers the last times by thread, and each reading has its own.
        last, now = self._last, self._cpu_times()
        self._last = now
        if last is None:
            return None
        # Some of the kernel's counters go back at times.
        spent_s = {kind: max(0.0, now[kind] - last[kind]) for kind in now}
        # Summed apart, the share cannot come out above 1 by rounding.
        idle_s = sum(spent_s.get(kind, 0.0) for kind in _NOT_BUSY)
        busy_s = sum(
            spent for kind, spent in spent_s.items() if kind not in (*_NOT_BUSY, *_COUNTED_TWICE)
        )
        spent_in_all_s = busy_s + idle_s
        # Readings within one tick of the kernel's counters tell nothing.
        return 100 * (busy_s / spent_in_all_s) if spent_in_all_s else None


class ResourceSampler:
    """Hands a reading to the observer every ``interval_s``, while its owner runs it.

    Only the second reading knows of the processors: it comes after ``FIRST_INTERVAL_S`` at most.
    """

    def __init__(
        self,
        host: HostReader,
        gpus: GpuWatch,
        observer: Observer,
        *,
        interval_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._host = host
        self._gpus = gpus
        self._observer = observer
        self._interval_s = interval_s
        self._sleep = sleep
        self._failing: set[str] = set()

    async def run(self) -> None:
        """Read until cancelled; what cannot be read is counted, told once and tried again."""
        await self.sample()
        await self._sleep(min(FIRST_INTERVAL_S, self._interval_s))
        while True:
            await self.sample()
            await self._sleep(self._interval_s)

    async def sample(self) -> None:
        """Read once in threads that never keep the process alive; observe on the loop."""
        try:
            read = await start_abandonable(self._host.read, name="resources")
        except (OSError, psutil.Error) as error:
            self._fail(_HOST, error)
            return
        self._failing.discard(_HOST)
        gpus = await self._gpus.read()
        if self._gpus.is_hanging:
            self._fail(_GPUS, TimeoutError("NVML hangs"))
        else:
            self._failing.discard(_GPUS)
        self._observer.observe(replace(read, gpus=gpus))

    def _fail(self, what: str, error: Exception) -> None:
        if what not in self._failing:
            self._failing.add(what)
            logger.warning("%s cannot be read: %s", what, error)
        self._observer.observe(ErrorOccurred(component=_COMPONENT, error_type=type(error).__name__))


def _read_cpu_times() -> Mapping[str, float]:
    times: dict[str, float] = psutil.cpu_times()._asdict()
    return times
