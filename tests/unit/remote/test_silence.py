"""A server of a fleet that takes requests and then says nothing any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.remote import server as servers
from mm_orch.workers.phase import ModelPhase
from tests.unit.remote.test_fleet import endpoint_of, fleet_of, loaded, until
from tests.unit.remote.test_server import MODELS, WHOLE, Script, generate, read

if TYPE_CHECKING:
    from mm_orch.orchestration.remote import RemoteGeneration
    from tests.unit.benchmarking.peer import Peer


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask servers often, and wait for no answer for long."""
    monkeypatch.setattr(servers, "_PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(servers, "_PROBE_S", 0.2)


class Stopped:
    """Says how it is until it has a request, then nothing."""

    def __init__(self) -> None:
        self.has_request = asyncio.Event()

    def __call__(self, body: dict[str, Any]) -> bytes:
        if body:
            self.has_request.set()
        return b"" if self.has_request.is_set() else MODELS


def begin(peer: Peer, generation: RemoteGeneration) -> tuple[Stopped, asyncio.Task[str]]:
    """Have a server stop as soon as it has this request."""
    peer.answer = stopped = Stopped()
    return stopped, asyncio.create_task(read(generation))


async def test_a_request_without_a_word_leaves_a_server_that_is_found_hanging() -> None:
    async with fleet_of(WHOLE, WHOLE) as (fleet, (hung, well)):
        generation = generate(fleet)
        with loaded(fleet, well):
            _, reading = begin(hung, generation)

            # It would be given up after thirty seconds of silence.
            assert await asyncio.wait_for(reading, 20) == "w w "
        [failover] = generation.failovers
        assert "ceased to answer" in failover.reason
        assert endpoint_of(fleet, hung).state == "failed"


async def test_where_there_is_no_other_server_it_is_waited_for() -> None:
    async with fleet_of(WHOLE) as (fleet, [hung]):
        generation = generate(fleet)
        stopped, reading = begin(hung, generation)
        await asyncio.wait_for(stopped.has_request.wait(), 20)
        await until(fleet, lambda: fleet.phase is ModelPhase.FAILED)
        hung.answer = Script(WHOLE)
        await until(fleet, lambda: fleet.num_ready == 1)

        assert not reading.done()
        assert generation.failovers == []
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
