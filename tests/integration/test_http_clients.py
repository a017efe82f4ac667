"""Clients that leave, stall or send too much, over real sockets: the generation ends with them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.api.settings import ApiSettings
from mm_orch.core.errors import EngineCrashedError
from mm_orch.core.events import HttpRequestFinished
from mm_orch.core.generation import TextDelta
from tests.unit.api.face import CHAT, HELLO, TEXT, Face
from tests.unit.api.scripted_generator import HOLD, EventList, ScriptedGenerator, say
from tests.unit.api.served import PATIENCE_S, call, serve
from tests.unit.storage.scene import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.api.scripted_generator import Step
    from tests.unit.api.served import Caller

STREAM = {**HELLO, "stream": True}
FIRST = say("Hello")[:1]


class AwaitedEvents(EventList):
    """Events that a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.has_exchange = asyncio.Event()

    def observe(self, event: object) -> None:
        super().observe(event)  # type: ignore[arg-type]  # whatever it is
        if isinstance(event, HttpRequestFinished):
            self.has_exchange.set()

    async def next_status(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            await self.has_exchange.wait()
        self.has_exchange.clear()
        return list(self.exchanges())[-1].status


def make_face(generator: ScriptedGenerator, **settings: Any) -> tuple[Face, AwaitedEvents]:
    observer = AwaitedEvents()
    return Face(generator, settings=ApiSettings(**settings), observer=observer), observer


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await event.wait()


@pytest.mark.parametrize("body", [HELLO, STREAM, {**HELLO, "n": 3}], ids=["whole", "stream", "n"])
async def test_a_client_that_leaves_before_the_first_text_ends_the_generation(
    body: dict[str, Any],
) -> None:
    face, observer = make_face(ScriptedGenerator([HOLD]))
    async with serve(face.app) as port, call(port) as client:
        client.send(CHAT, body)
        await until(face.generator.has_opened)

        await client.leave()

        await until(face.generator.has_emptied)
        assert await observer.next_status() == 499


async def test_a_client_that_leaves_within_a_stream_ends_the_generation() -> None:
    face, observer = make_face(ScriptedGenerator([*FIRST, HOLD]))
    async with serve(face.app) as port, call(port) as client:
        client.send(CHAT, STREAM)
        assert (await client.read_head()).status == 200
        assert face.generator.num_open == 1

        await client.leave()

        await until(face.generator.has_emptied)
        # The answer had begun, so its status stands.
        assert await observer.next_status() == 200


async def test_a_client_that_leaves_ends_the_generations_of_all_its_prompts() -> None:
    face, _ = make_face(ScriptedGenerator([*FIRST, HOLD]))
    async with serve(face.app) as port, call(port) as client:
        client.send(TEXT, {"prompt": ["a", "b", "c"], "stream": True})
        await client.read_head()
        assert face.generator.num_open == 3

        await client.leave()

        await until(face.generator.has_emptied)
        assert face.generator.num_open == 0


async def test_a_client_that_leaves_within_its_body_starts_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    face, observer = make_face(ScriptedGenerator())
    async with serve(face.app) as port, call(port) as client:
        client.send_head(CHAT, "Content-Length: 1000")
        client.writer.write(b'{"messages"')
        await client.writer.drain()

        await client.leave()

        assert await observer.next_status() == 499
    assert not face.generator.requests
    assert not caplog.records


async def test_the_next_request_is_served_after_clients_have_left() -> None:
    face, _ = make_face(ScriptedGenerator(scripts=[[HOLD], [*FIRST, HOLD], say("Hello")]))
    async with serve(face.app) as port:
        for num_gone, body in enumerate([HELLO, STREAM], start=1):
            async with call(port) as client:
                client.send(CHAT, body)
                await until(face.generator.has_opened)
                face.generator.has_opened.clear()
            await until(face.generator.has_emptied)
            face.generator.has_emptied.clear()
            assert len(face.generator.requests) == num_gone
        async with call(port) as client:
            client.send(CHAT, HELLO)
            reply = await client.read_reply()

    assert reply.json["choices"][0]["message"]["content"] == "Hello"


async def test_a_reader_that_stalls_is_dropped_and_its_generation_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    endless = [TextDelta(index=0, text="x" * 10_000, num_tokens=1)] * 3000
    face, observer = make_face(ScriptedGenerator(endless), send_timeout_s=0.2)
    async with serve(face.app) as port, call(port, max_unread_bytes=4096) as client:
        client.send(CHAT, STREAM)

        # Nobody reads and nobody closes.
        await until(face.generator.has_emptied)

        assert await observer.next_status() == 200
        assert client.reader.at_eof() is False
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_reader_of_an_export_that_stalls_is_dropped(tmp_path: Path) -> None:
    observer = AwaitedEvents()
    async with open_store(tmp_path) as store:
        for number in range(10):
            await store.append_turn(
                "", f"s{number}", question="x" * 10**6, answer="y" * 10**6, is_new=True
            )
        face = Face(settings=ApiSettings(send_timeout_s=0.2), observer=observer, sessions=store)
        async with serve(face.app) as port, call(port, max_unread_bytes=4096) as client:
            client.send_head("/api/export/sessions", method="GET")

            assert await observer.next_status() == 200
            assert client.reader.at_eof() is False


async def test_a_slow_reader_is_not_dropped_as_long_as_it_reads() -> None:
    texts = [f"{number} " * 500 for number in range(200)]
    face, _ = make_face(ScriptedGenerator(say(*texts)))
    async with serve(face.app) as port, call(port, max_unread_bytes=4096) as client:
        client.send(CHAT, STREAM)
        await client.read_head()
        events = b"".join([part async for part in client.read_parts()])

    chunks = [json.loads(line[6:]) for line in events.splitlines() if line.startswith(b"data: {")]
    told = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert told == "".join(texts)
    assert events.endswith(b"data: [DONE]\n\n")


async def test_text_arrives_as_it_is_generated() -> None:
    face, _ = make_face(ScriptedGenerator([*FIRST, HOLD]))
    async with serve(face.app) as port, call(port) as client:
        client.send(CHAT, STREAM)
        await client.read_head()
        told = b""
        async for part in client.read_parts():
            told += part
            if b"Hello" in told:
                break

        # The generation holds on, so nothing was kept back for its end.
        assert face.generator.num_open == 1


@pytest.mark.parametrize("body", [HELLO, STREAM], ids=["whole", "stream"])
async def test_an_error_before_the_first_text_is_a_status_and_keeps_the_connection(
    body: dict[str, Any],
) -> None:
    script: list[list[Step]] = [[EngineCrashedError("It died.")], say("again")]
    face, _ = make_face(ScriptedGenerator(scripts=script))
    async with serve(face.app) as port, call(port) as client:
        client.send(CHAT, body)
        failed = await client.read_reply()
        client.send(CHAT, HELLO)
        answered = await client.read_reply()

    assert (failed.status, failed.json["error"]["code"]) == (503, "engine_crashed")
    assert answered.status == 200


async def test_an_error_within_a_stream_is_its_end_and_the_connection_serves_on() -> None:
    script = [[*FIRST, EngineCrashedError("It died.")], say("again")]
    face, _ = make_face(ScriptedGenerator(scripts=script))
    async with serve(face.app) as port, call(port) as client:
        client.send(CHAT, STREAM)
        broken = await client.read_reply()
        client.send(CHAT, HELLO)
        answered = await client.read_reply()

    assert broken.status == 200
    *_, last = broken.body.split(b"\n\n")[:-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_crashed"
    assert b"[DONE]" not in broken.body
    assert answered.status == 200


async def send_in_parts(client: Caller, num_bytes: int) -> None:
    client.send_head(CHAT, "Transfer-Encoding: chunked")
    shell = b'{"messages":[{"role":"user","content":"%s"}]}'
    content = shell % (b"x" * (num_bytes - len(shell) + 2))
    for begin in range(0, num_bytes, 700):
        part = content[begin : begin + 700]
        client.writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        await client.writer.drain()
    client.writer.write(b"0\r\n\r\n")


@pytest.mark.parametrize(("num_bytes", "status"), [(5000, 200), (5001, 413)])
async def test_a_body_without_announced_length_is_counted_as_it_comes(
    num_bytes: int, status: int
) -> None:
    face, _ = make_face(ScriptedGenerator(), max_request_bytes=5000)
    async with serve(face.app) as port, call(port) as client:
        await send_in_parts(client, num_bytes)

        reply = await client.read_reply()

    assert reply.status == status
    assert reply.headers["x-request-id"]


async def test_an_announced_length_over_the_limit_is_refused_before_the_body_comes() -> None:
    face, _ = make_face(ScriptedGenerator(), max_request_bytes=5000)
    async with serve(face.app) as port, call(port) as client:
        client.send_head(CHAT, "Content-Length: 5001")

        reply = await client.read_reply()

    assert reply.status == 413
    assert reply.json["error"]["code"] == "request_too_large"


async def test_a_body_that_does_not_come_is_given_up() -> None:
    face, _ = make_face(ScriptedGenerator(), body_timeout_s=0.05)
    async with serve(face.app) as port, call(port) as client:
        client.send_head(CHAT, "Content-Length: 100")

        reply = await client.read_reply()

    assert reply.status == 504
    assert reply.json["error"]["code"] == "deadline_exceeded"


async def test_health_answers_while_streams_are_held() -> None:
    face, _ = make_face(ScriptedGenerator([*FIRST, HOLD]))
    async with serve(face.app) as port, call(port) as streaming, call(port) as watching:
        streaming.send(CHAT, STREAM)
        await streaming.read_head()
        watching.send("/live", b"", method="GET")

        reply = await watching.read_reply()

    assert reply.status == 200
