from __future__ import annotations

import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mm_orch.cli.remote import RunningServer, find_server
from mm_orch.cli.wishes import Wishes
from mm_orch.config import load_config
from mm_orch.core.errors import (
    AuthenticationError,
    MuAIError,
    NoServerError,
    WorkflowNotFoundError,
)
from tests.unit.cli.scripted_server import USAGE_CHUNK, sse, text_chunk

if TYPE_CHECKING:
    from mm_orch.cli.remote import RemoteReply
    from mm_orch.config import Config
    from tests.unit.cli.scripted_server import Script

TURNS = [{"role": "user", "content": "Hi"}]


def config_for(port: int, **environ: str) -> Config:
    overrides = {"monitoring.server.port": port}
    return load_config(path=None, environ=environ, overrides=overrides).config


def found(peer: Script, **environ: str) -> RunningServer:
    server = find_server(config_for(peer.port, **environ))
    assert server is not None
    return server


def reply_of(peer: Script, wishes: Wishes | None = None) -> RemoteReply:
    return found(peer).reply(TURNS, wishes or Wishes())


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    assert find_server(config_for(port)) is None


def test_a_server_that_is_not_ours_is_not_found(peer: Script) -> None:
    for health in (b"<html>", b'{"status": "ok"}', b"[]", b""):
        peer.health = health or b" "

        assert find_server(config_for(peer.port)) is None


def test_a_listener_that_never_answers_is_not_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert find_server(config_for(silent.getsockname()[1])) is None


def test_port_zero_says_nothing_of_where_a_server_is() -> None:
    assert find_server(config_for(0)) is None


def test_a_server_on_every_address_is_asked_on_the_loopback(peer: Script) -> None:
    config = config_for(peer.port, MUAI_MON_SERVER_HOST="0.0.0.0")  # noqa: S104 - the point

    server = find_server(config)

    assert server is not None
    assert server.place == peer.url


def test_the_status_comes_as_it_is(peer: Script) -> None:
    assert found(peer).status() == peer.report


def test_the_first_configured_key_opens_the_server(peer: Script) -> None:
    peer.key = "k1"

    assert found(peer, MUAI_API_KEYS="k1,k2").status() == peer.report


def test_a_refused_key_is_said(peer: Script) -> None:
    peer.key = "k1"

    with pytest.raises(AuthenticationError, match=r"refuses the key.*MUAI_API_KEY"):
        found(peer, MUAI_API_KEY="wrong").status()


RENEW = "Start it again with this version."


def why_no_status(peer: Script) -> NoServerError:
    with pytest.raises(NoServerError, match=f"^The server at {peer.url} gives no status: ") as why:
        found(peer).status()
    return why.value


@pytest.mark.parametrize("status", [b'{"health": 1}', b"<html>"])
def test_a_status_of_another_version_is_told_with_how_to_renew_the_server(
    peer: Script, status: bytes
) -> None:
    peer.status = status

    assert why_no_status(peer).remedy == RENEW


def test_a_server_that_knows_of_no_status_is_to_be_renewed_too(peer: Script) -> None:
    peer.fault = (404, b"{}")

    assert why_no_status(peer).remedy == RENEW


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"message": "The database is away."}}', "The database is away."),
        (b"<html>", "503 Service Unavailable."),
    ],
)
def test_a_server_that_refuses_the_status_is_told_of_in_its_own_words(
    peer: Script, body: bytes, words: str
) -> None:
    peer.fault = (503, body)

    why = why_no_status(peer)

    assert str(why).endswith(f"gives no status: {words}")
    assert why.remedy is None


def test_a_server_that_hangs_up_is_to_be_asked_again(peer: Script) -> None:
    peer.hangs_up = True

    assert why_no_status(peer).remedy == "Ask again; its log says what happened."


def test_an_upload_that_is_cut_off_is_told_as_an_upload() -> None:
    # Nothing listens on the discard port.
    server = RunningServer("127.0.0.1", 9, None, timeout_s=5)

    with pytest.raises(NoServerError, match=r"^The server at .* broke off the upload: "):
        server.upload("a.txt", b"a")


def test_an_answer_streams_and_then_is_whole(peer: Script) -> None:
    reply = reply_of(peer, Wishes(model="small", max_tokens=9, temperature=0.0))

    assert list(reply) == ["Hel", "lo"]

    answer = reply.answer
    assert (answer.text, answer.finish_reason) == ("Hello", "stop")
    assert (answer.model, answer.engine) == ("smollm2-135m", "pytorch")
    usage = answer.usage
    assert (usage.num_prompt_tokens, usage.num_generated_tokens) == (30, 2)
    assert usage.num_cached_tokens == 8
    assert 0 < answer.ttft_s <= answer.total_s
    assert peer.requests == [
        {
            "messages": TURNS,
            "stream": True,
            "stream_options": {"include_usage": True},
            "model": "small",
            "max_tokens": 9,
            "temperature": 0.0,
        }
    ]


def test_what_was_not_wished_is_not_sent(peer: Script) -> None:
    list(reply_of(peer))

    assert peer.requests[0].keys() == {"messages", "stream", "stream_options"}


def test_keep_alive_comments_are_no_text(peer: Script) -> None:
    peer.stream = b": waiting\n\n" + peer.stream

    assert "".join(reply_of(peer)) == "Hello"


def test_an_answer_without_text_is_empty(peer: Script) -> None:
    peer.stream = sse(text_chunk("", "length"), USAGE_CHUNK)
    reply = reply_of(peer)

    assert list(reply) == []
    assert (reply.answer.text, reply.answer.finish_reason) == ("", "length")


def test_a_refused_request_gives_the_servers_words(peer: Script) -> None:
    peer.refusal = (503, json.dumps({"error": {"message": "The queue is full."}}).encode())

    with pytest.raises(MuAIError, match=r"^The queue is full\.$"):
        list(reply_of(peer))


def test_a_refusal_that_is_no_envelope_gives_its_status(peer: Script) -> None:
    peer.refusal = (502, b"<html>")

    with pytest.raises(MuAIError, match="502"):
        list(reply_of(peer))


def test_an_error_in_the_stream_ends_it_after_what_came(peer: Script) -> None:
    peer.stream = sse(text_chunk("Hel"), {"error": {"message": "The engine died."}}, done=False)
    pieces = iter(reply_of(peer))

    assert next(pieces) == "Hel"
    with pytest.raises(MuAIError, match=r"The engine died\."):
        next(pieces)


def test_a_stream_without_its_end_mark_is_no_answer(peer: Script) -> None:
    peer.stream = sse(text_chunk("Hel"), done=False)
    reply = reply_of(peer)

    with pytest.raises(NoServerError, match="broke off the answer: the stream ended early"):
        list(reply)
    with pytest.raises(MuAIError, match="not complete"):
        _ = reply.answer


def test_a_chunk_that_is_no_json_is_a_broken_stream(peer: Script) -> None:
    peer.stream = sse("{oops")

    with pytest.raises(NoServerError, match="no JSON"):
        list(reply_of(peer))


def test_closing_early_closes_the_connection(peer: Script) -> None:
    peer.stream = sse(text_chunk("Hel"), done=False)
    peer.hold_open = True

    with closing(iter(reply_of(peer))) as pieces:
        assert next(pieces) == "Hel"
        assert not peer.client_left.is_set()

    assert peer.client_left.wait(10)


@pytest.mark.parametrize(
    ("wishes", "model"),
    [
        (Wishes(), None),
        (Wishes(model="tiny"), "tiny"),
        (Wishes(workflow="chat_generate"), "workflow/chat_generate"),
        (Wishes(workflow="chat_generate", model="tiny"), "workflow/chat_generate/tiny"),
    ],
)
def test_a_workflow_is_asked_for_where_the_model_stands(
    peer: Script, wishes: Wishes, model: str | None
) -> None:
    with closing(iter(reply_of(peer, wishes))) as pieces:
        list(pieces)

    assert peer.requests[-1].get("model") == model


def test_a_workflow_that_the_server_does_not_have_is_wrong_usage(peer: Script) -> None:
    error = {"message": "No workflow is named 'x'.", "code": "workflow_not_found"}
    peer.refusal = (404, json.dumps({"error": error}).encode())

    with (
        closing(iter(reply_of(peer, Wishes(workflow="x")))) as pieces,
        pytest.raises(WorkflowNotFoundError, match="No workflow is named 'x'"),
    ):
        next(pieces)


@pytest.mark.parametrize(
    ("failed", "lacking"),
    [
        ([{"step": "read", "message": "It broke."}], ("read: It broke.",)),
        # Of a server of another version.
        ([{"name": "read"}], ()),
    ],
)
def test_what_an_answer_is_without_is_taken_over(
    peer: Script, failed: object, lacking: tuple[str, ...]
) -> None:
    peer.stream = sse(text_chunk("Hi"), {"choices": [], "muai": {"failed_steps": failed}})
    reply = reply_of(peer)

    assert list(reply) == ["Hi"]
    assert reply.answer.lacking == lacking
