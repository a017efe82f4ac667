"""A model that another server runs, against a server over real sockets that follows a script."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    DrainingError,
    EngineCrashedError,
    EngineFailedError,
    EngineHungError,
    InvalidValueError,
    ModelUnavailableError,
)
from mm_orch.core.generation import ChatPrompt, GenerationOptions, GenerationRequest, Message
from mm_orch.core.trace import CURRENT, TraceContext
from mm_orch.orchestration.account import RequestAccount
from mm_orch.orchestration.remote import RemoteGeneration
from mm_orch.orchestration.running import Deadline
from mm_orch.workers.phase import ModelPhase
from tests.recorder import Recorder
from tests.unit.benchmarking.peer import STREAM_HEAD, Peer, chunk, event, serving, usage
from tests.unit.remote.fleets import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.remote.fleet import RemoteFleet


def reply(status: str, body: bytes, headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"{headers}\r\n".encode()
        + body
    )


MODELS = reply("200 OK", b'{"data": [{"id": "theirs"}]}')
WORD = {"choices": [{"index": 0, "delta": {"content": "w "}}]}
END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def stream(*events: object, is_whole: bool = True) -> bytes:
    body = b"".join(chunk(event(one)) for one in events)
    return STREAM_HEAD + body + (chunk(b"") if is_whole else b"")


WHOLE = stream(WORD, WORD, END, usage(7, 2, 3), "[DONE]")


class Script:
    """Answers questions about models, then each request with the next answer; the last stays."""

    def __init__(self, *answers: bytes, models: bytes = MODELS) -> None:
        self._answers = list(answers)
        self._models = models

    def __call__(self, body: dict[str, Any]) -> bytes:
        if not body:
            return self._models
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@asynccontextmanager
async def asked(
    answer: Callable[[dict[str, Any]], bytes], *, name: str = "", stall_s: float = 30.0, **peer: Any
) -> AsyncIterator[tuple[RemoteFleet, Peer]]:
    async with (
        serving(Peer(answer=answer, **peer)) as there,
        running(there.target.url, name_there=name or None, stall_s=stall_s) as fleet,
    ):
        yield fleet, there


def generate(
    fleet: RemoteFleet, content: str = "Hello", *, max_retries: int = 1, timeout_s: float = 30.0
) -> RemoteGeneration:
    request = GenerationRequest(
        request_id="r",
        prompt=ChatPrompt((Message(role="user", content=content),)),
        options=GenerationOptions(max_tokens=5),
    )
    account = RequestAccount(
        "r", operation="chat", observer=Recorder(), clock=asyncio.get_running_loop().time
    )
    return RemoteGeneration(
        request,
        fleet,
        account=account,
        deadline=Deadline(timeout_s),
        max_retries=max_retries,
        on_start=lambda: None,
    )


async def read(generation: RemoteGeneration) -> str:
    try:
        return "".join([delta.text async for delta in generation])
    finally:
        await generation.aclose()


async def test_a_request_is_answered_there_and_counted_as_they_count() -> None:
    async with asked(Script(WHOLE)) as (fleet, there):
        generation = generate(fleet)

        assert await read(generation) == "w w "
        told = generation.usage
        assert (told.num_prompt_tokens, told.num_generated_tokens) == (7, 2)
        assert told.num_cached_tokens == 3
        assert there.bodies[-1]["model"] == "theirs"
        assert "authorization: bearer secret" in there.heads[-1].lower()
        assert fleet.phase is ModelPhase.READY


async def test_a_request_takes_its_trace_along_and_questions_about_models_have_none() -> None:
    async with asked(Script(WHOLE)) as (fleet, there):
        await fleet.wait_until_ready()
        trace = TraceContext(0xABC, 0xDEF, is_sampled=True, state="vendor=1")
        CURRENT.set(trace)
        await read(generate(fleet))
        CURRENT.set(None)
        await read(generate(fleet))

    question, traced, plain = (head.lower() for head in there.heads)
    assert f"traceparent: {trace.traceparent}\r\n" in traced
    assert "tracestate: vendor=1\r\n" in traced
    assert "trace" not in question + plain


async def test_the_models_name_there_may_be_given() -> None:
    both = reply("200 OK", b'{"data": [{"id": "one"}, {"id": "two"}]}')
    async with asked(Script(WHOLE, models=both), name="two") as (fleet, there):
        await read(generate(fleet))
        assert there.bodies[-1]["model"] == "two"
    for name, says in (("", "one, two: say which is meant"), ("three", "no model three")):
        async with asked(Script(WHOLE, models=both), name=name) as (fleet, _):
            with pytest.raises(ModelUnavailableError, match=says):
                await fleet.wait_until_ready()


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (
            reply("400 Bad Request", b'{"error": {"message": "top_k is odd", "param": "top_k"}}'),
            InvalidValueError,
            "top_k is odd",
        ),
        (
            reply("429 Too Many Requests", b"{}", "Retry-After: 7\r\n"),
            ModelUnavailableError,
            "answers with 429",
        ),
        (reply("500 Oops", b"it broke"), EngineFailedError, "500: it broke"),
        (stream(WORD, {"error": {"message": "no memory"}}), EngineFailedError, "no memory"),
        (stream(WORD, "[DONE]"), EngineFailedError, "without a reason"),
        (stream(WORD, "nonsense"), EngineFailedError, "no JSON"),
        (stream(WORD), EngineCrashedError, "closed its stream before the end"),
    ],
)
async def test_faults_are_told_by_whose_they_are(
    answer: bytes, kind: type[Exception], says: str
) -> None:
    async with asked(Script(answer)) as (fleet, _):
        with pytest.raises(kind, match=says):
            await read(generate(fleet))


async def test_before_the_first_word_a_request_is_sent_again() -> None:
    async with asked(Script(reply("500 Oops", b"it broke"), WHOLE)) as (fleet, there):
        assert await read(generate(fleet)) == "w w "
        assert len(there.bodies) == 2


async def test_after_the_first_word_it_is_not() -> None:
    broken = stream(WORD, is_whole=False)
    async with asked(Script(broken, WHOLE), max_requests=2) as (fleet, there):
        with pytest.raises(EngineCrashedError):
            await read(generate(fleet))
        assert len(there.bodies) == 1


async def test_callers_faults_and_overload_open_no_circuit() -> None:
    refusal = reply("400 Bad Request", b'{"error": {"message": "no"}}')
    async with asked(Script(refusal)) as (fleet, _):
        for _ in range(5):
            with pytest.raises(InvalidValueError):
                await read(generate(fleet))
        assert fleet.circuit_state.value == "closed"


async def test_three_failed_requests_open_it_and_an_answer_to_how_it_is_closes_it() -> None:
    async with asked(Script(reply("500 Oops", b""))) as (fleet, _):
        await fleet.wait_until_ready()
        for _ in range(3):
            fleet.endpoints[0].server.count(EngineFailedError("it broke"))
        assert fleet.phase is ModelPhase.FAILED

        await fleet.wait_until_ready(patience_s=30)

        assert fleet.circuit_state.value == "closed"


async def test_a_server_that_is_away_is_told_with_the_address() -> None:
    async with serving(Peer()) as gone:
        url = gone.target.url
    async with running(url) as fleet:
        with pytest.raises(ModelUnavailableError, match=r"cannot be reached: .*[Cc]onnect"):
            await fleet.wait_until_ready()


async def test_a_server_that_stalls_is_given_up() -> None:
    async with asked(Script(stream(WORD, is_whole=False)), stall_s=0.1) as (fleet, _):
        with pytest.raises(EngineHungError, match=r"said nothing for 0\.1 s"):
            await read(generate(fleet))


async def test_the_deadline_and_the_servers_end_go_first() -> None:
    async with asked(Script(stream(WORD, is_whole=False))) as (fleet, _):
        with pytest.raises(DeadlineError):
            await read(generate(fleet, timeout_s=0.1))

        broken_off = generate(fleet)
        reading = asyncio.create_task(read(broken_off))
        await fleet.wait_until_ready()
        broken_off.break_off(DrainingError("The server ends.", retry_after_s=1))
        with pytest.raises(DrainingError):
            await reading
