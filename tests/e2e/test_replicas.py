"""Two workers of one model behind a real server: both answer, and one that is killed is no loss."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import ROOT
from tests.streams import CHAT, Reading, model_of, wait_for_replicas

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests import odd_engines as odd
    from tests.processes import ServerProcess

    Launch = Callable[..., ServerProcess]

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model")]

MODEL = "smollm2-135m"
# Says the prompt back, a token in 50 ms.
SLOW = "slow"
NUM_TOKENS = 100


def replicas_of(server: ServerProcess) -> list[dict[str, Any]]:
    replicas: list[dict[str, Any]] = model_of(server, MODEL)["replicas"]
    return replicas


def ask(server: ServerProcess, text: str, max_tokens: int) -> Reading:
    # Echo says the prompt again and again. No two begin alike: their replica is the one with less
    # to do.
    messages = [{"role": "system", "content": text}, {"role": "user", "content": "Hello"}]
    body = {"max_tokens": max_tokens, "ignore_eos": True, "temperature": 0}
    return Reading(server, CHAT, body | {"messages": messages})


def count_by_replica(server: ServerProcess) -> dict[str, float]:
    page = server.request("GET", "/metrics").body.decode()
    found: dict[str, float] = {}
    for labels, value in re.findall(r"^replica_requests_total\{(.*)\} (\S+)$", page, re.MULTILINE):
        [number] = re.findall(r'replica="(\d+)"', labels)
        found[number] = found.get(number, 0) + float(value)
    return found


def test_both_answer_and_the_stream_of_one_that_is_killed_goes_on(
    launch: Launch, odd_engines: odd.Switch
) -> None:
    path = os.pathsep.join([odd_engines.environment["PYTHONPATH"], str(ROOT)])
    server = launch(
        config={"models": {MODEL: {"engines": [SLOW], "replicas": 2}}},
        environment={**odd_engines.environment, "PYTHONPATH": path},
    )
    wait_for_replicas(server, MODEL, 2)
    undisturbed = ask(server, "Two of a kind.", NUM_TOKENS).result()
    streams = []
    for text in ("Two of a kind.", "This is another one."):
        # One after the other: the second goes where the first is not once that one is counted.
        streams.append(ask(server, text, NUM_TOKENS))
        assert streams[-1].wait_for_pieces(1)

    [first, second] = replicas_of(server)
    assert first["num_queued_tokens"] > 0
    assert second["num_queued_tokens"] > 0
    os.kill(first["worker_pid"], signal.SIGKILL)
    told = [one.result() for one in streams]

    assert told[0].text == undisturbed.text
    assert [one.num_ends for one in told] == [1, 1]
    assert sorted(one.moves for one in told) == [[], [(SLOW, SLOW)]]
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
