"""When a request may be given to a worker again, and what it is suspected of."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.errors import DeviceLostError, EngineCrashedError, PoisonedRequestError
from mm_orch.core.place_errors import NodeLostError
from mm_orch.orchestration.account import RequestAccount
from mm_orch.orchestration.failover import Replays
from tests.recorder import Recorder

if TYPE_CHECKING:
    from mm_orch.workers.worker import Worker

# Neither is asked for anything when a worker has died.
NO_MANAGER: Any = None
NO_WORKER: Worker = None  # type: ignore[assignment]  # see above


def make_replays(max_failovers: int = 5) -> Replays:
    account = RequestAccount("r", operation="chat", observer=Recorder(), clock=time.monotonic)
    return Replays(
        account, manager=NO_MANAGER, quarantine=asyncio.Lock(), max_failovers=max_failovers
    )


async def test_a_request_whose_workers_die_one_after_another_is_poison() -> None:
    replays = make_replays()
    await replays.admit(NO_WORKER, EngineCrashedError("it died", num_lost=1))

    with pytest.raises(PoisonedRequestError):
        await replays.admit(NO_WORKER, EngineCrashedError("it died", num_lost=1))


@pytest.mark.parametrize("error_class", [NodeLostError, DeviceLostError])
async def test_a_request_that_is_alone_when_its_places_are_lost_goes_on_unsuspected(
    error_class: type[EngineCrashedError],
) -> None:
    replays = make_replays(max_failovers=3)
    for _ in range(3):
        await replays.admit(NO_WORKER, error_class("it is gone", num_lost=1))

    # As often as it may, and no more.
    with pytest.raises(error_class):
        await replays.admit(NO_WORKER, error_class("it is gone", num_lost=1))
