"""Reads every few seconds what the machine has and uses, beside the event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import psutil

from mm_orch.core.events import ResourcesRead
from mm_orch.core.threads import start_abandonable
from mm_orch.monitoring.memory import read_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.core.events import Observer
    from mm_orch.monitoring.gpus import GpuReader
    from mm_orch.monitoring.memory import Memory

INTERVAL_S = 5.0
# Time in a guest is in the user's time as well; waiting for a disk is no work.
_COUNTED_TWICE = ("guest", "guest_nice")
_NOT_BUSY = ("idle", "iowait")

logger = logging.getLogger(__name__)


class ResourceReader:
    """Reads processors, memory and GPUs; may block, so it belongs in a thread.

    Args:
        gpus: reads the GPUs, where there are any.
        memory: gives what this process can use.
        cpu_times: gives the seconds that all processors together spent, by kind, since boot.
    """

    def __init__(
        self,
        gpus: GpuReader | None = None,
        *,
        memory: Callable[[], Memory] = read_memory,
        cpu_times: Callable[[], Mapping[str, float]] | None = None,
    ) -> None:
        self._gpus = gpus
        self._memory = memory
        self._cpu_times = cpu_times or _read_cpu_times
        self._last = self._cpu_times()

    def read(self) -> ResourcesRead:
        """Return what is used now; of the processors, the share since the last reading.

        Raises:
            OSError: the system does not tell.
            psutil.Error: the same.
        """
        memory = self._memory()
        return ResourcesRead(
            cpu_percent=self._read_cpu_percent(),
            memory_used_bytes=memory.used_bytes,
            memory_total_bytes=memory.total_bytes,
            gpus=self._gpus.read() if self._gpus is not None else (),
        )

    def close(self) -> None:
        """Give the GPUs' library back."""
        if self._gpus is not None:
            self._gpus.close()

    def _read_cpu_percent(self) -> float:
        # psutil.cpu_percent remembers the last times by thread, and each reading has its own.
        last, self._last = self._last, self._cpu_times()
        # Some of the kernel's counters go back at times.
        spent_s = {kind: max(0.0, now - last[kind]) for kind, now in self._last.items()}
        # Summed apart, the share cannot come out above 1 by rounding.
        idle_s = sum(spent_s.get(kind, 0.0) for kind in _NOT_BUSY)
        busy_s = sum(
            spent for kind, spent in spent_s.items() if kind not in (*_NOT_BUSY, *_COUNTED_TWICE)
        )
        return 100 * (busy_s / (busy_s + idle_s)) if busy_s else 0.0


class ResourceSampler:
    """Hands a reading to the observer every ``interval_s``, while its owner runs it."""

    def __init__(
        self, reader: ResourceReader, observer: Observer, *, interval_s: float = INTERVAL_S
    ) -> None:
        self._reader = reader
        self._observer = observer
        self._interval_s = interval_s
        self._is_failing = False
        self._is_reading = False

    async def run(self) -> None:
        """Read until cancelled, then close the reader.

        What cannot be read is told once in the log and tried again.
        """
        try:
            while True:
                await self.sample()
                await asyncio.sleep(self._interval_s)
        finally:
            # A library that hangs in a reading would hang the shutdown as well.
            if not self._is_reading:
                self._reader.close()

    async def sample(self) -> None:
        """Read once in a thread that never keeps the process alive; observe on the loop."""
        self._is_reading = True
        try:
            read = await start_abandonable(self._reader.read, name="resources")
        except (OSError, psutil.Error) as error:
            if not self._is_failing:
                logger.warning("the machine's resources cannot be read: %s", error)
            self._is_failing, self._is_reading = True, False
            return
        self._is_failing = self._is_reading = False
        self._observer.observe(read)


def _read_cpu_times() -> Mapping[str, float]:
    times: dict[str, float] = psutil.cpu_times()._asdict()
    return times
