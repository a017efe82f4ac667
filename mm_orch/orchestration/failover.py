"""Finds a request another worker when its own is lost, within limits.

the engine failed it, its worker lives   try again, the next time perhaps elsewhere
where its worker ran was lost            nobody has caused it: try again
its worker died with it and others       anybody may have caused it: try again
... a second time                        suspect: go on only while no other suspect runs
... while it was the only suspect        poison: never again
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import (
    EngineCrashedError,
    EngineError,
    FailoverError,
    PoisonedRequestError,
)
from mm_orch.core.fallback import Failover
from mm_orch.core.place_errors import OF_PLACE

if TYPE_CHECKING:
    import asyncio

    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.account import RequestAccount
    from mm_orch.workers.worker import Worker

_SUSPECT_AFTER = 2


class Replays:
    """Counts what one request has lost, and decides whether it may go on.

    Args:
        account: of the request.
        manager: told about faults of engines whose workers live.
        quarantine: held by the one suspect of the model that may run.
        max_failovers: how often it may go on; 0 for never.

    Attributes:
        failovers: how it went on so far.
    """

    def __init__(
        self,
        account: RequestAccount,
        *,
        manager: OptimizationManager,
        quarantine: asyncio.Lock,
        max_failovers: int,
    ) -> None:
        self.failovers: list[Failover] = []
        self._account = account
        self._manager = manager
        self._quarantine = quarantine
        self._max_failovers = max_failovers
        self._num_replays = 0
        self._num_deaths = 0
        self._is_quarantined = False
        self._has_counted_fault = False

    async def admit(self, worker: Worker, error: EngineError) -> None:
        """Return when the request may be given to a worker again.

        Raises:
            PoisonedRequestError: workers die of this request.
            EngineError: the error itself, when the request has gone on as often as it may.
        """
        self._count(worker, error)
        if self._num_replays >= self._max_failovers:
            raise error
        self._num_replays += 1
        if self._num_deaths >= _SUSPECT_AFTER and not self._is_quarantined:
            await self._quarantine.acquire()
            self._is_quarantined = True

    def record(
        self, error: EngineError, from_engine: str, to_engine: str, *, num_delivered_tokens: int = 0
    ) -> None:
        """Note that the request goes on with another worker."""
        note = Failover(from_engine, to_engine, num_delivered_tokens, _first_line(error.message))
        self.failovers.append(note)
        self._account.fail_over(note)

    def record_success(self, worker: Worker) -> None:
        """Note that a worker has answered the request."""
        self._manager.record_success(worker)

    def close(self) -> None:
        """Let the next suspect run."""
        if self._is_quarantined:
            self._is_quarantined = False
            self._quarantine.release()

    def _count(self, worker: Worker, error: EngineError) -> None:
        if not isinstance(error, EngineCrashedError):
            if not self._has_counted_fault:
                self._has_counted_fault = True
                self._manager.count_step_fault(worker, error.message)
            return
        if error.num_lost == 0 or isinstance(error, OF_PLACE):
            # It was never given to that worker, or did not harm it.
            return
        self._num_deaths += 1
        is_alone = error.num_lost == 1 or self._is_quarantined
        if self._num_deaths >= _SUSPECT_AFTER and is_alone:
            raise PoisonedRequestError(
                f"{self._num_deaths} workers of {self._account.model} ended while they answered"
                " this request, so it is not tried again.",
                remedy="Change the request; /health says how the workers ended.",
            ) from error


def cannot_resume(engine: str, obstacle: str, error: EngineError) -> FailoverError:
    """Say that an answer ends here because the next engine cannot continue it exactly."""
    return FailoverError(
        f"The answer was cut off ({_first_line(error.message)}), and {engine} cannot continue it:"
        f" the request has {obstacle}, whose state only the first engine knew.",
        remedy="Send the request again.",
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0].removesuffix(".")
