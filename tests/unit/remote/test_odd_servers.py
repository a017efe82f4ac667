"""Answers that nobody expects: they are held against who gives them, and end nothing here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import EngineCrashedError, EngineFailedError, ModelUnavailableError
from mm_orch.remote.discovery import Address, Discovery
from mm_orch.remote.server import RemoteServer
from mm_orch.workers.phase import ModelPhase
from tests.unit.remote.test_server import (
    END,
    MODELS,
    WHOLE,
    WORD,
    Script,
    asked,
    generate,
    read,
    reply,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

DEEP = b"[" * 100_000
ODD_USAGE = {"choices": [], "usage": {"prompt_tokens": "many"}}
A_DAY_S = 86_400.0


def make_server(clock: Callable[[], float]) -> RemoteServer:
    return RemoteServer(
        "ours",
        Address("http://127.0.0.1:1"),
        name_there=None,
        api_key="",
        stall_s=1,
        on_change=lambda: None,
        clock=clock,
    )


@pytest.mark.parametrize(
    "models",
    [
        b'{"data": [{"id": 5}, {"id": 6}]}',
        b'{"data": [{"id": ["a"]}]}',
        b'{"data": 5}',
        b'{"data": [5]}',
        b"5",
        b"nonsense",
        DEEP,
    ],
    ids=["numbers", "lists", "no list", "no objects", "no object", "no JSON", "deep"],
)
async def test_what_is_no_list_of_models_is_told_and_asked_for_again(models: bytes) -> None:
    script = Script(WHOLE, models=reply("200 OK", models))
    async with asked(script) as (fleet, _):
        with pytest.raises(ModelUnavailableError, match="is no list of models"):
            await fleet.wait_until_ready()

        script._models = MODELS
        await fleet.wait_until_ready(patience_s=30)

        assert await read(generate(fleet)) == "w w "


async def test_a_fault_in_asking_a_server_is_logged_and_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask, faults = RemoteServer._ask_models, [ZeroDivisionError("nobody thought of it")]

    async def ask_with_a_fault(server: RemoteServer) -> None:
        if faults:
            raise faults.pop()
        await ask(server)

    monkeypatch.setattr(RemoteServer, "_ask_models", ask_with_a_fault)
    async with asked(Script(WHOLE)) as (fleet, _):
        await fleet.wait_until_ready(patience_s=30)

    assert "nobody thought of it" in caplog.text


async def test_a_fault_in_asking_a_registry_is_logged_and_it_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = frozenset({Address("http://gpu-1")})

    class OddFinder:
        name = "dns:http://odd"
        num_questions = 0

        async def find(self) -> frozenset[Address]:
            self.num_questions += 1
            if self.num_questions == 1:
                raise ZeroDivisionError("nobody thought of it")
            return found

        async def wait(self, _: float) -> None:
            await asyncio.get_running_loop().create_future()

    told: asyncio.Queue[frozenset[Address]] = asyncio.Queue()
    discovery = Discovery(OddFinder(), interval_s=0.001, on_news=told.put_nowait)
    running = asyncio.create_task(discovery.run())
    async with asyncio.timeout(30):
        while await told.get() != found:
            # First it is told that nothing can be learned.
            assert "nobody thought of it" in discovery.trouble
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert (discovery.trouble, discovery.has_answered) == ("", True)
    assert "nobody thought of it" in caplog.text


@pytest.mark.parametrize(
    "event", ["5", "[1]", "null", DEEP.decode(), ODD_USAGE], ids=lambda one: str(one)[:20]
)
async def test_an_event_that_is_no_chunk_fails_its_request_alone(event: object) -> None:
    async with asked(Script(stream(WORD, event, END))) as (fleet, _):
        with pytest.raises(EngineFailedError):
            await read(generate(fleet))
        assert fleet.phase is ModelPhase.READY


@pytest.mark.parametrize(
    "rest",
    [(), (ODD_USAGE,), ("nonsense",), ({"error": {"message": "it ends"}},)],
    ids=["nothing", "odd usage", "nonsense", "an error"],
)
@pytest.mark.parametrize("is_whole", [False, True])
async def test_an_answer_that_breaks_off_after_its_last_word_is_whole(
    rest: tuple[object, ...],
    is_whole: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    script = Script(stream(WORD, WORD, END, *rest, is_whole=is_whole))
    async with asked(script, max_requests=2) as (fleet, _):
        generation = generate(fleet)

        assert await read(generation) == "w w "

        # Its own count never came.
        assert generation.usage.num_generated_tokens == 2
        assert fleet.phase is ModelPhase.READY
        assert fleet.circuit_state.value == "closed"
        assert generation.failovers == []


async def test_an_answer_that_breaks_off_with_one_of_its_choices_open_is_not_whole() -> None:
    async with asked(Script(stream(WORD)), max_requests=2) as (fleet, _):
        with pytest.raises(EngineCrashedError):
            await read(generate(fleet))
        assert fleet.phase is ModelPhase.FAILED


@pytest.mark.parametrize("num_faults", [1, 3], ids=["lost", "failed requests"])
async def test_a_server_that_fails_once_a_day_is_asked_again_soon_each_time(
    num_faults: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(_: RemoteServer) -> None:
        return

    monkeypatch.setattr(RemoteServer, "_ask_models", answer)
    now_s = 0.0
    server = make_server(lambda: now_s)
    lost = EngineCrashedError("gone", num_lost=1) if num_faults == 1 else EngineFailedError("500")
    waits = []
    for _ in range(9):
        await server._probe()
        assert server.phase is ModelPhase.READY
        now_s += A_DAY_S
        for _ in range(num_faults):
            server.count(lost)
        waits.append(server.circuit.wait_s)
        now_s += 1
    assert waits == [0.5] * 9

    # One that is lost again and again is left alone for longer.
    for _ in range(3):
        await server._probe()
        for _ in range(num_faults):
            server.count(lost)
        waits.append(server.circuit.wait_s)
        now_s += 60
    assert waits[9:] == [1.0, 2.0, 4.0]
