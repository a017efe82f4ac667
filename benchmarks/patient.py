"""A client that is refused, waits as long as it is told to, and asks again until it is in."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING

from mm_orch.benchmarking.client import Client
from mm_orch.benchmarking.load import DEFAULT_TIMEOUT_S
from mm_orch.benchmarking.workloads import body_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.workloads import Workload


@dataclass(slots=True)
class Wait:
    """One request that is asked until it is let in.

    Attributes:
        told_s: what each refusal's Retry-After said.
        waited_s: from the first time it was asked to when it was let in, or until it was given up.
        is_in: it was let in.
        error: what went wrong that is no refusal, or a refusal without Retry-After.
    """

    told_s: list[int] = field(default_factory=list)
    waited_s: float = 0.0
    is_in: bool = False
    error: str | None = None

    @property
    def num_tries(self) -> int:
        """How often it was asked."""
        return len(self.told_s) + self.is_in


async def ask_patiently(target: Target, workload: Workload, *, duration_s: float) -> list[Wait]:
    """Ask for one session after another, each until it is let in and answered.

    Args:
        target: the server.
        workload: sessions, of which the first turn is asked; they begin again after the last.
        duration_s: no request is sent after this time.
    """
    client = Client(target, timeout_s=DEFAULT_TIMEOUT_S)
    end_s = time.perf_counter() + duration_s
    waits: list[Wait] = []
    try:
        for session in cycle(workload.sessions):
            if time.perf_counter() >= end_s:
                return waits
            body = body_of(workload, session, 0, answers=[], model=target.model)
            waits.append(await _ask_until_in(client, workload.path, body, end_s))
            if waits[-1].error is not None:
                return waits
    finally:
        client.close()
    return waits


async def _ask_until_in(
    client: Client, path: str, body: Mapping[str, object], end_s: float
) -> Wait:
    wait, begin_s = Wait(), time.perf_counter()
    while True:
        sent_s = time.perf_counter()
        wait.waited_s = sent_s - begin_s
        # Whoever calls has looked at the time before the first.
        if wait.told_s and sent_s >= end_s:
            return wait
        reader = await client.post(path, body)
        if not reader.is_turned_away:
            wait.is_in, wait.error = reader.error is None, reader.error
            return wait
        if reader.retry_after_s is None:
            wait.error = f"no Retry-After: {reader.error}"
            return wait
        wait.told_s.append(reader.retry_after_s)
        # Who would wait beyond the end is given up there.
        await asyncio.sleep(min(reader.retry_after_s, max(0.0, end_s - time.perf_counter())))
