from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from mm_orch.benchmarking.client import Client, Target, read_json
from mm_orch.benchmarking.load import (
    arrival_times,
    failures_of,
    run_at,
    run_closed,
    run_interleaved,
    run_open,
)
from mm_orch.benchmarking.workloads import Session, Turn, Workload
from mm_orch.core.errors import InvalidValueError, NoServerError
from tests.unit.benchmarking.peer import (
    STREAM_HEAD,
    Peer,
    answer,
    chunk,
    event,
    serving,
)

BODY = {"prompt": "a", "max_tokens": 2}


def workload(num_sessions: int = 4, num_turns: int = 1, *, is_chat: bool = True) -> Workload:
    turns = tuple(Turn(f"question {number}", 3) for number in range(num_turns))
    sessions = tuple(Session(turns=turns) for _ in range(num_sessions))
    return Workload(name="w", is_chat=is_chat, sessions=sessions)


@pytest.mark.parametrize("is_chat", [True, False])
async def test_a_request_is_recorded_as_its_client_saw_it(*, is_chat: bool) -> None:
    async with serving(Peer()) as peer:
        run = await run_closed(peer.target, workload(1, is_chat=is_chat), 1)

    [record] = run.requests
    assert record.error is None
    assert (record.num_prompt_tokens, record.num_output_tokens) == (10, 3)
    assert (record.num_cached_tokens, record.is_cache_told) == (4, True)
    assert (record.late_s, run.offered_per_s) == (0.0, None)
    assert len(record.pieces_s) == 3
    assert len(record.gaps_s) == 2
    assert record.ttft_s is not None
    assert 0 < record.ttft_s <= record.total_s <= run.wall_s
    assert record.text == ("w1 " if is_chat else "w ") * 3


async def test_each_turn_sends_the_servers_own_answers() -> None:
    async with serving(Peer()) as peer:
        run = await run_closed(peer.target, workload(1, 3), 1)

    assert [record.turn for record in run.requests] == [0, 1, 2]
    said = [turn["content"] for turn in peer.bodies[2]["messages"]]
    assert said == ["question 0", "w1 w1 w1 ", "question 1", "w3 w3 w3 ", "question 2"]


async def test_a_closed_loop_keeps_as_many_requests_open_as_it_has_clients() -> None:
    # The peer answers only when three are there: fewer would wait for ever, more are seen.
    async with serving(Peer(barrier=asyncio.Barrier(3))) as peer:
        run = await run_closed(peer.target, workload(6), 3)

    assert peer.most_open == 3
    assert len(run.requests) == 6
    assert run.load == "3 clients"


async def test_interleaved_sessions_take_turns_and_each_goes_on_with_its_own_answers() -> None:
    async with serving(Peer()) as peer:
        run = await run_interleaved(peer.target, workload(5, 3), 2, seed=1)

    assert failures_of([run]) == []
    assert [(one.session, one.turn) for one in run.requests] == [
        (session, turn) for session in range(5) for turn in range(3)
    ]
    # All first turns, then all second ones, then all third ones.
    assert [len(body["messages"]) for body in peer.bodies] == [1] * 5 + [3] * 5 + [5] * 5
    said = [turn["content"] for turn in peer.bodies[-1]["messages"]]
    assert said == ["question 0", "w1 w1 w1 ", "question 1", "w3 w3 w3 ", "question 2"]


async def test_interleaved_sessions_are_asked_in_another_order_each_time() -> None:
    async with serving(Peer()) as peer:
        run = await run_interleaved(peer.target, workload(20, 2), 1, seed=1)
    by_begin = sorted(run.requests, key=lambda record: record.begin_s)
    first, second = ([one.session for one in by_begin if one.turn == turn] for turn in (0, 1))

    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


async def test_a_session_whose_turn_fails_is_asked_no_more() -> None:
    async with serving(
        Peer(answer=lambda _: b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    ) as peer:
        run = await run_interleaved(peer.target, workload(3, 2), 4, seed=1)

    assert [record.turn for record in run.requests] == [0, 0, 0]


async def test_connections_are_kept_between_requests() -> None:
    async with serving(Peer()) as peer:
        await run_closed(peer.target, workload(5), 1)

    assert peer.num_connections == 1


async def test_a_kept_connection_that_the_server_closed_is_no_failure() -> None:
    async with serving(Peer(max_requests=1)) as peer:
        run = await run_closed(peer.target, workload(5), 1)

    assert failures_of([run]) == []
    assert peer.num_connections == 5


async def test_an_open_loop_counts_from_when_a_request_was_due() -> None:
    due_s = arrival_times(3, rate_per_s=1000, seed=7)
    async with serving(Peer()) as peer:
        run = await run_open(peer.target, workload(3), rate_per_s=1000, seed=7)

    assert [record.begin_s for record in run.requests] == due_s
    assert all(record.late_s >= 0 for record in run.requests)
    assert run.offered_per_s == 3 / due_s[-1]
    assert run.wall_s >= due_s[-1]


def test_arrivals_are_the_same_for_a_seed_and_as_frequent_as_wanted() -> None:
    times_s = arrival_times(4000, rate_per_s=2.0, seed=3)

    assert times_s == arrival_times(4000, rate_per_s=2.0, seed=3)
    assert times_s != arrival_times(4000, rate_per_s=2.0, seed=4)
    gaps = [b - a for a, b in pairwise(times_s)]
    assert all(gap > 0 for gap in gaps)
    assert 4000 / times_s[-1] == pytest.approx(2.0, rel=0.1)
    # A Poisson process: its gaps spread as far as they are long.
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.1)


async def test_a_server_that_answers_late_does_not_hold_arrivals_back() -> None:
    # Nobody is answered until all three are there: a loop that waited would never end.
    async with serving(Peer(barrier=asyncio.Barrier(3))) as peer:
        run = await run_open(peer.target, workload(3), rate_per_s=100, seed=7)

    assert failures_of([run]) == []
    assert peer.most_open == 3


async def test_what_is_not_answered_by_the_end_is_broken_off() -> None:
    barrier = asyncio.Barrier(3)
    async with serving(Peer(barrier=barrier)) as peer:
        run = await run_at(peer.target, workload(2), [0.001, 0.002], words="two", end_s=0.2)
        # Lets the peer answer, which finds that both have gone.
        await barrier.wait()
        await peer.left.acquire()
        await peer.left.acquire()

    assert run.requests == ()
    assert run.load == "two"


@pytest.mark.parametrize(
    ("status", "is_turned_away"), [("429 Slow", True), ("503 Busy", True), ("500 Oh", False)]
)
async def test_a_refusal_for_load_is_noted_as_such(status: str, *, is_turned_away: bool) -> None:
    given = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serving(Peer(answer=lambda _: given)) as peer:
        run = await run_open(peer.target, workload(2), rate_per_s=1000, seed=1)

    assert [record.is_turned_away for record in run.requests] == [is_turned_away] * 2


async def test_a_refusal_tells_when_to_come_again_and_a_request_has_its_id() -> None:
    head = b"HTTP/1.1 503 Unavailable\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"
    sent: list[int] = []
    async with serving(Peer(answer=lambda _: head)) as peer:
        client = Client(peer.target, timeout_s=5.0)
        reader = await client.post(
            "/v1/completions", BODY, request_id="r-1", on_sent=lambda: sent.append(1)
        )
        client.close()

    assert (reader.retry_after_s, reader.is_turned_away) == (7, True)
    assert "X-Request-ID: r-1\r\n" in peer.heads[0]
    assert sent == [1]


class Listener(Peer):
    """Answers nothing, and notes when its client has gone."""

    gone: asyncio.Event

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        self.gone.set()
        writer.close()


async def test_who_is_cancelled_closes_its_connection() -> None:
    listener = Listener()
    listener.gone = asyncio.Event()
    async with serving(listener):
        client, sent = Client(listener.target, timeout_s=5.0), asyncio.Event()
        asking = asyncio.create_task(client.post("/v1/completions", BODY, on_sent=sent.set))
        await sent.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            await listener.gone.wait()


async def test_a_server_that_does_not_tell_of_its_cache_is_noted() -> None:
    # Equally long, so that the chunks' sizes stay right.
    def untold(body: dict[str, Any]) -> bytes:
        return answer(body).replace(b"cached_tokens", b"cachedXtokens")

    async with serving(Peer(answer=untold)) as peer:
        run = await run_closed(peer.target, workload(1), 1)

    assert failures_of([run]) == []
    assert (run.requests[0].num_cached_tokens, run.requests[0].is_cache_told) == (0, False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull", "HTTP 503: full"),
        (STREAM_HEAD + chunk(event({"choices": []})) + chunk(b""), "the stream ended early"),
        (STREAM_HEAD + chunk(event({"error": {"message": "oh"}})) + chunk(b""), "broke off"),
        (STREAM_HEAD + chunk(event("{")) + chunk(b""), "cannot be read"),
        (b"hello\r\n\r\n", "no HTTP"),
    ],
)
async def test_what_goes_wrong_is_recorded_and_ends_the_session(given: bytes, said: str) -> None:
    async with serving(Peer(answer=lambda _: given)) as peer:
        run = await run_closed(peer.target, workload(1, 2), 1)

    [record] = run.requests
    assert record.error is not None
    assert said in record.error
    [failure] = failures_of([run])
    assert "session 0 turn 0" in failure


async def test_a_connection_that_breaks_within_an_answer_is_a_failure() -> None:
    half = answer({"max_tokens": 2, "messages": []})[:-40]
    async with serving(Peer(answer=lambda _: half, max_requests=1)) as peer:
        run = await run_closed(peer.target, workload(1), 1)

    assert run.requests[0].error == "the connection broke off"


async def test_a_stream_that_ends_with_its_connection_is_whole() -> None:
    def until_closed(body: dict[str, Any]) -> bytes:
        piece = event({"choices": [{"text": "a"}]})
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        return head + piece * body["max_tokens"] + event("[DONE]")

    async with serving(Peer(answer=until_closed, max_requests=1)) as peer:
        run = await run_closed(peer.target, workload(2), 1)

    assert failures_of([run]) == []
    assert [record.text for record in run.requests] == ["aaa", "aaa"]


async def test_events_may_be_cut_anywhere() -> None:
    whole = answer({"max_tokens": 2})
    data = whole[len(STREAM_HEAD) :]

    def cut(_: dict[str, Any]) -> bytes:
        text = b"".join(data.split(b"\r\n")[1::2])
        return STREAM_HEAD + b"".join(chunk(text[i : i + 1]) for i in range(len(text))) + chunk(b"")

    async with serving(Peer(answer=cut)) as peer:
        run = await run_closed(peer.target, workload(1, is_chat=False), 1)

    assert run.requests[0].text == "w w "
    assert run.requests[0].error is None


async def test_nobody_there_is_a_failure_not_an_end() -> None:
    async with serving(Peer()) as peer:
        target = peer.target
    run = await run_closed(target, workload(1), 1)

    assert "no connection" in str(run.requests[0].error)
    with pytest.raises(NoServerError, match="No server answers at"):
        await read_json(target, "/v1/models")


async def test_silence_is_not_waited_for_without_end() -> None:
    async with serving(Peer(barrier=asyncio.Barrier(2))) as peer:
        client = Client(peer.target, timeout_s=0.01)
        reader = await client.post("/v1/completions", BODY)
        assert peer.barrier is not None
        await peer.barrier.abort()
        client.close()

    assert reader.error == "silent for 0.01 s"


async def test_the_key_is_sent_and_json_is_read() -> None:
    peer = Peer(answer=lambda _: b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}')
    peer.target = Target(host="", port=0, model="m", key="secret")
    async with serving(peer):
        assert await read_json(peer.target, "/api/status") == {"a": 1}

    assert "Authorization: Bearer secret\r\n" in peer.heads[0]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:81", "http://h:81"),
        ("http://h/v1/", "http://h:80"),
        ("http://[::1]:9/a/v1", "http://[::1]:9/a"),
        ("https://h/v1", "https://h:443"),
    ],
)
def test_a_url_is_taken_with_or_without_its_version(url: str, shown: str) -> None:
    assert Target.parse(url, model="m").url == shown


@pytest.mark.parametrize("url", ["h:81", "ftp://h", "http://", "http://h:x"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidValueError, match="is no address of a server"):
        Target.parse(url, model="m")
