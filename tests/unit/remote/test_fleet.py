"""Several servers that run one model, over real sockets: who takes a request, who comes, goes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.endpoints import read_endpoints
from mm_orch.core.errors import EngineCrashedError, ModelUnavailableError
from mm_orch.core.events import CircuitChanged, WorkerStateChanged
from mm_orch.core.fleet_events import EndpointChanged, EndpointChosen
from mm_orch.core.generation import GenerationOptions
from mm_orch.core.placement_events import RequestFailedOver
from mm_orch.remote.discovery import Address, DiscoveryError
from mm_orch.remote.prompt_view import PromptView
from mm_orch.workers.phase import ModelPhase
from tests.recorder import Recorder
from tests.unit.benchmarking.peer import Peer, serving, usage
from tests.unit.remote.fleets import make_fleet, run, running
from tests.unit.remote.test_server import END, WHOLE, WORD, Script, generate, read, reply, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from mm_orch.remote.endpoint import Endpoint
    from mm_orch.remote.fleet import RemoteFleet

OOPS = reply("500 Oops", b"it broke")
FULL = reply("503 Service Unavailable", b"{}", "Retry-After: 7\r\n")


@asynccontextmanager
async def fleet_of(
    *answers: bytes, observer: Recorder | None = None
) -> AsyncIterator[tuple[RemoteFleet, list[Peer]]]:
    """A server for each answer, all of them asked and well."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(serving(Peer(answer=Script(answer))))
            for answer in answers
        ]
        urls = [peer.target.url for peer in peers]
        fleet = await stack.enter_async_context(running(*urls, observer=observer))
        await until(fleet, lambda: fleet.num_ready == len(answers))
        yield fleet, peers


async def until(fleet: RemoteFleet, is_so: object) -> None:
    """Wait until something is so; the fleet tells of every change."""
    async with asyncio.timeout(30):
        while not is_so():  # type: ignore[operator]  # a function without arguments
            await fleet.news.wait()


def endpoint_of(fleet: RemoteFleet, peer: Peer) -> Endpoint:
    [found] = [one for one in fleet.endpoints if one.server.address.url == peer.target.url]
    return found


@contextmanager
def loaded(fleet: RemoteFleet, peer: Peer) -> Iterator[None]:
    """Let a server have much to do for as long as this is entered."""
    prompt = PromptView(names=(), num_tokens=100_000)
    placed = fleet.placing.choose([endpoint_of(fleet, peer)], prompt)
    with fleet.carrying(placed, GenerationOptions(max_tokens=1)):
        yield


async def test_a_request_goes_to_the_server_with_less_to_do() -> None:
    async with fleet_of(WHOLE, WHOLE) as (fleet, (busy, idle)):
        with loaded(fleet, busy):
            for _ in range(5):
                assert await read(generate(fleet)) == "w w "

        assert (len(busy.bodies), len(idle.bodies)) == (0, 5)
        assert [one.num_requests for one in fleet.endpoints] == [0, 0]
        assert [one.queued.total for one in fleet.endpoints] == [0, 0]


async def test_a_conversation_goes_where_it_was_until_that_server_is_lost() -> None:
    recorder = Recorder()
    async with fleet_of(WHOLE, WHOLE, observer=recorder) as (fleet, peers):
        for _ in range(3):
            await read(generate(fleet, "Tell me. " * 200))
        [own] = [peer for peer in peers if peer.bodies]
        [other] = [peer for peer in peers if peer is not own]
        assert len(own.bodies) == 3

        endpoint_of(fleet, own).server.count(EngineCrashedError("gone", num_lost=1))
        await read(generate(fleet, "Tell me. " * 200))
        await until(fleet, lambda: fleet.num_ready == 2)
        await read(generate(fleet, "Tell me. " * 200))

        # What it had held may be gone.
        assert len(other.bodies) == 2
        rules = [one.rule for one in recorder.of(EndpointChosen)]
        assert rules == ["load", "prefix", "prefix", "only", "prefix"]


async def test_what_servers_tell_of_their_memory_is_heard() -> None:
    told = [stream(WORD, END, usage(600, 1, num_cached), "[DONE]") for num_cached in (0, 0, 600, 0)]
    async with (
        serving(Peer(answer=Script(*told))) as peer,
        running(peer.target.url) as fleet,
    ):
        held = []
        for content in ("A " * 1000, "B " * 1000, "B " * 1000, "B " * 1000):
            await read(generate(fleet, content))
            held.append(fleet.placing.count_held_tokens(fleet.endpoints[0]))

        # It has begun anew: what was older than the prompt that it does not know is gone as well.
        assert held[3] == held[0] == held[1] // 2
        assert held[2] == held[1]


async def test_what_a_server_has_under_way_counts_until_its_answer_is_closed() -> None:
    async with fleet_of(WHOLE) as (fleet, _):
        generation = generate(fleet)
        deltas = aiter(generation)
        await anext(deltas)
        [endpoint] = fleet.endpoints
        # Of five tokens that it may generate one is there, and with it the prompt is done.
        assert (endpoint.num_requests, endpoint.queued.total) == (1, 4)

        await generation.aclose()

        assert (endpoint.num_requests, endpoint.queued.total) == (0, 0)


async def test_before_its_first_word_a_request_goes_to_another_server_and_tells_of_it() -> None:
    async with fleet_of(OOPS, WHOLE) as (fleet, (broken, whole)):
        with loaded(fleet, whole):
            generation = generate(fleet)
            assert await read(generation) == "w w "

        assert (len(broken.bodies), len(whole.bodies)) == (1, 1)
        [failover] = generation.failovers
        assert "500: it broke" in failover.reason
        told = generation._account._observer
        assert isinstance(told, Recorder)
        assert [one.num_delivered_tokens for one in told.of(RequestFailedOver)] == [0]


async def test_after_its_first_word_it_ends_with_the_fault() -> None:
    async with fleet_of(stream(WORD), WHOLE) as (fleet, (broken, whole)):
        with (
            loaded(fleet, whole),
            pytest.raises(EngineCrashedError),
        ):
            await read(generate(fleet))

        assert (len(broken.bodies), len(whole.bodies)) == (1, 0)


async def test_a_server_without_a_place_is_left_alone_for_as_long_as_it_asked() -> None:
    async with fleet_of(FULL, WHOLE) as (fleet, (full, free)):
        with loaded(fleet, free):
            for _ in range(3):
                # No retry is allowed: a server without a place is no fault.
                assert await read(generate(fleet, max_retries=0)) == "w w "

        assert (len(full.bodies), len(free.bodies)) == (1, 3)
        assert endpoint_of(fleet, full).server.circuit.state.value == "closed"
        assert fleet.num_ready == 2


async def test_servers_without_a_place_are_asked_once_each() -> None:
    async with fleet_of(FULL, FULL, FULL) as (fleet, peers):
        with pytest.raises(ModelUnavailableError, match="503"):
            await read(generate(fleet, max_retries=0))

        assert [len(peer.bodies) for peer in peers] == [1, 1, 1]


async def test_a_server_that_fails_is_passed_over_until_it_is_well() -> None:
    recorder = Recorder()
    async with fleet_of(WHOLE, WHOLE, observer=recorder) as (fleet, (lost, other)):
        endpoint_of(fleet, lost).server.count(EngineCrashedError("gone", num_lost=1))
        assert fleet.phase is ModelPhase.READY
        assert fleet.circuit_state.value == "closed"
        [trouble] = fleet.troubles
        assert trouble == f"1 of 2 servers fail: {lost.target.url}: gone"

        await read(generate(fleet))
        assert (len(lost.bodies), len(other.bodies)) == (0, 1)
        await until(fleet, lambda: fleet.num_ready == 2)

        assert fleet.troubles == []
        changes = [
            one.change for one in recorder.of(EndpointChanged) if one.address == lost.target.url
        ]
        assert changes == ["found", "joined", "failed", "joined"]
        assert recorder.of(EndpointChanged)[-1].num_by_state == {"ready": 2}
        # The model itself was there all the time.
        assert [one.is_up for one in recorder.of(WorkerStateChanged)] == [True]
        assert recorder.of(CircuitChanged) == []


async def test_with_its_last_server_the_model_is_down() -> None:
    recorder = Recorder()
    async with fleet_of(WHOLE, WHOLE, observer=recorder) as (fleet, _):
        for endpoint in fleet.endpoints:
            endpoint.server.count(EngineCrashedError("gone", num_lost=1))

        assert fleet.phase is ModelPhase.FAILED
        assert fleet.circuit_state.value == "open"
        assert fleet.detail.count(": gone") == 2
        assert [one.is_up for one in recorder.of(WorkerStateChanged)] == [True, False]
        assert [one.state for one in recorder.of(CircuitChanged)] == ["open"]


async def test_many_requests_that_one_fault_ends_lengthen_the_back_off_once() -> None:
    async with fleet_of(WHOLE) as (fleet, _):
        [endpoint] = fleet.endpoints
        for _ in range(20):
            endpoint.server.count(EngineCrashedError("gone", num_lost=1))

        assert endpoint.server.circuit.wait_s <= 0.5


async def test_a_server_that_is_named_no_more_ends_what_it_has_and_leaves() -> None:
    recorder = Recorder()
    async with (
        serving(Peer(answer=Script(stream(WORD, is_whole=False)))) as old,
        serving(Peer(answer=Script(WHOLE))) as new,
    ):
        fleet = make_fleet(old.target.url, observer=recorder)
        async with run(fleet):
            generation = generate(fleet)
            await anext(aiter(generation))

            fleet.name([read_endpoints(new.target.url)])

            assert {one.state for one in fleet.endpoints} == {"leaving", "joining"}
            assert await read(generate(fleet)) == "w w "
            assert (len(old.bodies), len(new.bodies)) == (1, 1)
            await generation.aclose()
            assert [one.server.address.url for one in fleet.endpoints] == [new.target.url]
            changes = [one.change for one in recorder.of(EndpointChanged)]
            assert changes == ["found", "joined", "found", "leaving", "joined", "left"]


async def test_a_server_that_is_named_again_stays() -> None:
    async with fleet_of(stream(WORD, is_whole=False)) as (fleet, [peer]):
        generation = generate(fleet)
        await anext(aiter(generation))
        fleet.name([])
        assert [one.state for one in fleet.endpoints] == ["leaving"]

        fleet.name([read_endpoints(peer.target.url)])

        assert [one.state for one in fleet.endpoints] == ["ready"]
        await generation.aclose()
        assert fleet.num_ready == 1


TOLD = "dns:http://told"


class Told:
    """A finder that says what the test has it say; implements remote.discovery.Finder."""

    name = TOLD

    def __init__(self, *answers: frozenset[Address] | DiscoveryError) -> None:
        self._answers = list(answers)
        self.all_said = asyncio.Event()
        self.left = asyncio.Event()

    async def find(self) -> frozenset[Address]:
        answer = self._answers.pop(0)
        if isinstance(answer, DiscoveryError):
            raise answer
        return answer

    async def wait(self, interval_s: float) -> None:
        if self._answers:
            await asyncio.sleep(interval_s)
        else:
            self.all_said.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.left.set()


async def test_what_cannot_be_asked_changes_nothing() -> None:
    async with serving(Peer(answer=Script(WHOLE))) as peer:
        named = frozenset({Address(peer.target.url)})
        finder = Told(named, DiscoveryError("it is away"), named)
        fleet = make_fleet(finders={TOLD: finder})
        [discovery] = fleet._sources.discoveries
        troubles = []
        discovery_note = discovery._note

        def note(trouble: str) -> None:
            discovery_note(trouble)
            troubles.append(tuple(fleet.troubles))

        discovery._note = note  # type: ignore[method-assign]  # to look in the moment itself
        async with run(fleet):
            await asyncio.wait_for(finder.all_said.wait(), 30)
            await fleet.wait_until_ready()

            assert troubles == [
                (),
                ("dns:http://told cannot be asked for servers: it is away",),
                (),
            ]
            assert fleet.num_ready == 1


async def test_registries_and_the_list_may_be_exchanged_while_they_are_followed() -> None:
    peers = [Peer(answer=Script(WHOLE)) for _ in range(3)]
    async with serving(peers[0]) as one, serving(peers[1]) as two, serving(peers[2]) as three:
        old = Told(frozenset({Address(one.target.url)}))
        new = Told(frozenset({Address(two.target.url)}))
        fleet = make_fleet(finders={TOLD: old, "dns:http://new": new})
        fleet.name([read_endpoints(TOLD)])
        async with run(fleet):
            await until(fleet, lambda: fleet.num_ready == 1)
            fleet.name([read_endpoints("dns:http://new"), read_endpoints(three.target.url)])

            await until(fleet, lambda: fleet.num_ready == 2)
            await asyncio.wait_for(old.left.wait(), 30)
            urls = {endpoint.server.address.url for endpoint in fleet.endpoints}
            assert urls == {two.target.url, three.target.url}
            assert not new.left.is_set()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (DiscoveryError("no route"), r"no server of it is known \(dns:http://told: no route\)"),
        (frozenset[Address](), r"no server of it is known \(dns:http://told: names none\)"),
    ],
)
async def test_a_fleet_without_servers_says_who_was_asked(
    answer: frozenset[Address] | DiscoveryError, says: str
) -> None:
    fleet = make_fleet(finders={TOLD: Told(answer, frozenset())})
    async with run(fleet):
        with pytest.raises(ModelUnavailableError, match=says):
            await fleet.wait_until_ready()


async def test_the_key_stands_in_no_line_of_the_log_and_in_no_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    forbidden = reply("401 Unauthorized", b'{"error": {"message": "wrong key"}}')
    async with (
        serving(Peer(answer=Script(WHOLE, models=forbidden))) as peer,
        running(peer.target.url) as fleet,
    ):
        with pytest.raises(ModelUnavailableError, match=r"refuses the key \(401\)") as told:
            await fleet.wait_until_ready()

        assert "bearer secret" in peer.heads[0].lower()
        assert "secret" not in caplog.text + str(told.value) + repr(fleet.endpoints)


async def test_an_answer_that_ends_counts_for_the_server_that_gave_it() -> None:
    last = stream(WORD, END, "[DONE]")
    async with fleet_of(last) as (fleet, _):
        [endpoint] = fleet.endpoints
        endpoint.server.circuit.count_step_fault("odd")
        endpoint.server.circuit.count_step_fault("odd")

        await read(generate(fleet))

        assert not endpoint.server.circuit.count_step_fault("odd")
