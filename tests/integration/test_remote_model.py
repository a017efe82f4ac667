"""A model of one server served by another: both are real, and the first is the other's source."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

CHAT = {
    "model": "theirs",
    "messages": [{"role": "user", "content": "One two three."}],
    "max_tokens": 40,
    "temperature": 0,
    "ignore_eos": True,
}


@pytest.fixture
def servers(launch: Callable[..., ServerProcess]) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """The one that has the model, and the one that asks it."""
    there = launch(config={"models": {"smollm2-135m": {"engines": ["echo"]}}})
    models = {
        "theirs": {"source": f"openai:{there.url}/v1#smollm2-135m"},
        "smollm2-135m": {"engines": ["echo"]},
    }
    here = launch(
        config={"models": models, "monitoring": {"server": {"preload_models": ["theirs"]}}}
    )
    return there, here


def text_of(server: ServerProcess, body: dict[str, object]) -> str:
    reply = server.request("POST", "/v1/chat/completions", body)
    assert reply.status == 200, reply.body
    return str(reply.json["choices"][0]["message"]["content"])


def test_an_answer_comes_from_there_whole_streamed_and_counted(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    there, here = servers
    expected = text_of(there, {**CHAT, "model": "smollm2-135m"})

    reply = here.request("POST", "/v1/chat/completions", CHAT)
    with here.open_stream({**CHAT, "stream": True}) as stream:
        *chunks, done = list(stream)

    assert reply.json["choices"][0]["message"]["content"] == expected
    assert reply.headers["x-muai-engine"] == "remote"
    assert reply.json["usage"]["completion_tokens"] == 40
    assert done == "[DONE]"
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == expected


def test_a_client_that_leaves_frees_its_place_there(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    there, here = servers
    endless = {**CHAT, "max_tokens": 8000, "stream": True}
    with here.open_stream(endless) as stream:
        next(iter(stream))
        assert there.request("GET", "/api/status").json["num_running"] == 1

    for server in (here, there):
        while server.request("GET", "/api/status").json["num_running"]:
            pass


def test_what_the_other_server_refuses_is_refused_in_its_words(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    _, here = servers

    reply = here.request("POST", "/v1/chat/completions", {**CHAT, "max_tokens": 10**6})

    assert reply.status == 400
    assert "max_tokens is 1000000" in reply.json["error"]["message"]


def test_a_server_that_is_gone_is_told_and_comes_back(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    there, here = servers
    there.process.kill()
    there.wait()

    reply = here.request("POST", "/v1/chat/completions", CHAT)

    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    health = here.request("GET", "/health/models/theirs").json
    assert (health["status"], health["engine"]) == ("failed", "remote")
    assert "cannot be reached" in health["detail"] or "broken off" in health["detail"]
