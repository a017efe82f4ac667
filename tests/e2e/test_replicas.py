"""Two workers of one model behind a real server: both answer, and one that is killed is no loss."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.streams import CHAT, Reading, model_of, wait_for_replicas

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import ServerProcess

    Launch = Callable[..., ServerProcess]

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model")]

MODEL = "smollm2-135m"


def replicas_of(server: ServerProcess) -> list[dict[str, Any]]:
    replicas: list[dict[str, Any]] = model_of(server, MODEL)["replicas"]
    return replicas


def ask(server: ServerProcess, text: str, max_tokens: int = 7000) -> Reading:
    # Echo says the prompt again and again.
    body = {"max_tokens": max_tokens, "ignore_eos": True, "temperature": 0}
    return Reading(server, CHAT, body | {"messages": [{"role": "user", "content": text}]})


def count_by_replica(server: ServerProcess) -> dict[str, float]:
    page = server.request("GET", "/metrics").body.decode()
    found: dict[str, float] = {}
    for labels, value in re.findall(r"^replica_requests_total\{(.*)\} (\S+)$", page, re.MULTILINE):
        [number] = re.findall(r'replica="(\d+)"', labels)
        found[number] = found.get(number, 0) + float(value)
    return found


def test_both_answer_and_the_stream_of_one_that_is_killed_goes_on(launch: Launch) -> None:
    server = launch(config={"models": {MODEL: {"engines": ["echo"], "replicas": 2}}})
    wait_for_replicas(server, MODEL, 2)
    undisturbed = ask(server, "two of a kind").result()
    streams = [ask(server, "two of a kind"), ask(server, "another one")]
    assert all(one.wait_for_pieces(1) for one in streams)

    [first, second] = replicas_of(server)
    assert first["num_queued_tokens"] > 0
    assert second["num_queued_tokens"] > 0
    os.kill(first["worker_pid"], signal.SIGKILL)
    told = [one.result() for one in streams]

    assert told[0].text == undisturbed.text
    assert [one.num_ends for one in told] == [1, 1]
    assert sorted(one.moves for one in told) == [[], [("echo", "echo")]]
    counts = count_by_replica(server)
    assert counts.keys() == {"0", "1"}
    assert min(counts.values()) >= 1
    wait_for_replicas(server, MODEL, 2)


def test_replicas_join_and_leave_by_call(launch: Launch) -> None:
    server = launch(config={"models": {MODEL: {"engines": ["echo"]}}})
    for count in (2, 1):
        change = {f"models.{MODEL}.replicas": count}
        reply = server.request("PATCH", "/admin/config", change)
        assert reply.status == 200
        assert [one["new"] for one in reply.json["changes"]] == [count]
        wait_for_replicas(server, MODEL, count)
        assert ask(server, "hello", max_tokens=5).result().num_tokens == 5
    # A worker each, and nothing that is left over.
    page = server.request("GET", "/metrics").body.decode()
    assert len(re.findall(r"^replica_up\{.*\} 1", page, re.MULTILINE)) == 1
