"""Reads the GPUs for whoever asks, in threads that may hang: nobody waits longer than a bound."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from mm_orch.core.threads import start_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.core.clock import Clock
    from mm_orch.core.events import GpuReading
    from mm_orch.gpus.nvml import GpuReader

GPU_TIMEOUT_S = 5.0


class GpuWatch:
    """One reading at a time, which all who ask meanwhile share, until it is closed.

    Args:
        find: gives the reader, where there are GPUs; called in the first reading.
        timeout_s: longest wait for a reading.
    """

    def __init__(
        self,
        find: Callable[[], GpuReader | None],
        *,
        timeout_s: float = GPU_TIMEOUT_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._find = find
        self._timeout_s = timeout_s
        self._clock = clock
        self._is_found = False
        self._reader: GpuReader | None = None
        self._reading: asyncio.Future[tuple[GpuReading, ...]] | None = None
        self._overdue_at_s = 0.0

    @property
    def is_hanging(self) -> bool:
        """Whether the last reading is over its deadline and has not come back."""
        reading = self._reading
        return reading is not None and not reading.done() and self._clock() >= self._overdue_at_s

    async def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU; all are unhealthy while a reading is over its deadline."""
        if self._is_found and self._reader is None:
            return ()
        # What has come late is too old to be shown. What still hangs has had its time, and a
        # second thread would only hang beside it.
        if self._reading is None or self._reading.done():
            self._reading = start_abandonable(self._read, name="gpus")
            self._overdue_at_s = self._clock() + self._timeout_s
        reading = self._reading
        await asyncio.wait({reading}, timeout=max(0.0, self._overdue_at_s - self._clock()))
        if reading.done():
            return reading.result()
        return () if self._reader is None else self._reader.unhealthy("cannot be read: NVML hangs")

    async def aclose(self) -> None:
        """Give the GPUs' library back, unless it hangs; waits for ``timeout_s`` at most."""
        if self._reader is None or (self._reading is not None and not self._reading.done()):
            return
        with contextlib.suppress(TimeoutError):
            closing = start_abandonable(self._reader.close, name="close-gpus")
            await asyncio.wait_for(closing, self._timeout_s)

    def _read(self) -> tuple[GpuReading, ...]:
        if not self._is_found:
            self._reader = self._find()
            self._is_found = True
        return () if self._reader is None else self._reader.read()
