"""Two servers in front of two others: which server has a conversation, and what that saves."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.fleets import ECHO, PATIENCE_S, endpoints_of, front, series, wait_for
from tests.processes import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

ENDPOINTS = "models.theirs.endpoints"
NUM_WORDS = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, and the share of the prompt that needed no computing."""

    text: str
    cached_share: float


class Conversation:
    """Its messages so far; every turn asks one of the servers in front."""

    def __init__(self, begin: str, session: str = "") -> None:
        self._messages: list[dict[str, str]] = []
        self._fields = {"conversation_id": session} if session else {}
        self._begin = begin

    def fork(self) -> Conversation:
        """Return one that goes on from here as this one does."""
        other = Conversation(self._begin)
        other._messages, other._fields = list(self._messages), self._fields
        return other

    def ask(self, server: ServerProcess, num_words: int = NUM_WORDS) -> Answer:
        text = f"{self._begin} {len(self._messages)} " + "what is it? " * (num_words // 3)
        self._messages.append({"role": "user", "content": text})
        reply = server.request(
            "POST",
            "/v1/chat/completions",
            {
                "model": "theirs",
                "messages": self._messages,
                "max_tokens": 20,
                "temperature": 0,
                "ignore_eos": True,
                **self._fields,
            },
        )
        assert reply.status == 200, reply.body
        said, usage = reply.json["choices"][0]["message"], reply.json["usage"]
        self._messages.append({"role": "assistant", "content": said["content"]})
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return Answer(said["content"], cached / usage["prompt_tokens"])


class Fleet:
    """Two servers with the model, and two in front of them; the first front has this file."""

    def __init__(
        self, servers: list[ServerProcess], fronts: list[ServerProcess], file: Path
    ) -> None:
        self.servers = servers
        self.fronts = fronts
        self.file = file

    def counts(self) -> list[float]:
        """Requests that each server has answered."""
        return [series(one, "inference_requests_total") for one in self.servers]

    def find_own(self, before: list[float]) -> tuple[ServerProcess, ServerProcess]:
        """Return the one server that has answered since, and the other one."""
        [own] = [index for index, count in enumerate(self.counts()) if count > before[index]]
        return self.servers[own], self.servers[1 - own]

    def begin(self, conversation: Conversation) -> tuple[ServerProcess, ServerProcess]:
        """Have the first front asked; return the server that has it now, and the other one."""
        before = self.counts()
        conversation.ask(self.fronts[0])
        return self.find_own(before)


def wait_until(server: ServerProcess, url: str, key: str, at_least: int) -> dict[str, Any]:
    """Wait until a front says so much of a server behind it."""
    pause = threading.Event()
    for _ in range(PATIENCE_S * 20):
        if (told := endpoints_of(server)[url])[key] >= at_least:
            return told
        # Asks again, and decides nothing.
        pause.wait(0.05)
    raise AssertionError(f"{told} is not at {key} >= {at_least}")


@contextmanager
def stopped(server: ServerProcess) -> Iterator[None]:
    """Let a server take requests and answer none for as long as this is entered."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def fleet(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there before a server starts
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    started: dict[Path, ServerProcess] = {}

    def start(name: str, config: Mapping[str, object]) -> ServerProcess:
        folder = tmp_path_factory.mktemp(name)
        started[folder] = server = start_server(folder, config=config)
        return server

    with ThreadPoolExecutor(2) as pool:
        try:
            servers = list(pool.map(start, ["behind"] * 2, [ECHO, ECHO]))
            urls = [one.url for one in servers]
            configs = [front(*urls), front(*reversed(urls))]
            fronts = list(pool.map(start, ["front"] * 2, configs))
            for one in fronts:
                wait_for(one, dict.fromkeys(urls, "ready"))
            [folder] = [path for path, server in started.items() if server is fronts[0]]
            yield Fleet(servers, fronts, folder / "muai.yaml")
        finally:
            for server in started.values():
                server.stop(signal.SIGKILL)


@pytest.mark.parametrize("session", ["", "s"])
def test_a_conversation_stays_with_its_server_whichever_front_is_asked(
    fleet: Fleet, session: str
) -> None:
    for number in range(4):
        conversation = Conversation(f"{session}{number}", session and f"{session}{number}")
        before = fleet.counts()
        shares = [conversation.ask(fleet.fronts[turn % 2]).cached_share for turn in range(4)]
        # No other one had any of it.
        fleet.find_own(before)

        # The template begins all of them alike. Of the next turn all but what is new is there.
        assert shares[0] < 0.3
        assert shares[0] < shares[1] < shares[2] < shares[3]
        assert shares[3] > 0.7


@pytest.mark.parametrize("session", ["", "loaded"])
def test_a_server_with_much_to_do_is_passed_over(fleet: Fleet, session: str) -> None:
    here, conversation = fleet.fronts[0], Conversation(f"loaded {session}", session)
    own, _ = fleet.begin(conversation)
    late = conversation.fork()
    with ThreadPoolExecutor(1) as pool:
        with stopped(own):
            # It goes on there, and is some three thousand tokens that nobody computes.
            long = pool.submit(late.ask, here, 4000)
            told = wait_until(here, own.url, "num_queued_tokens", 2049)
            assert told["state"] == "ready"

            # The one that is stopped would not answer.
            assert conversation.ask(here).text
        assert long.result(PATIENCE_S).text


def test_the_servers_may_be_exchanged_while_requests_run(fleet: Fleet) -> None:
    here, conversation = fleet.fronts[0], Conversation("exchanged")
    own, other = fleet.begin(conversation)
    both = [one.url for one in fleet.servers]
    with ThreadPoolExecutor(1) as pool:
        with stopped(own):
            under_way = pool.submit(conversation.ask, here)
            wait_until(here, own.url, "num_running", 1)
            changed = here.request("PATCH", "/admin/config", {ENDPOINTS: [other.url]})
            [change] = changed.json["changes"]
            assert (change["old"], change["new"]) == (both, [other.url])
            wait_for(here, {own.url: "leaving", other.url: "ready"})
            # What comes now goes to who stays.
            assert Conversation("new").ask(here).text
        # What it had is let end.
        assert under_way.result(PATIENCE_S).text
    wait_for(here, {other.url: "ready"})

    refused = here.request("PATCH", "/admin/config", {ENDPOINTS: []})
    assert refused.status == 400
    assert "must name servers" in refused.json["error"]["message"]
    assert here.request("PATCH", "/admin/config", {ENDPOINTS: both}).status == 200
    wait_for(here, dict.fromkeys(both, "ready"))


def test_the_servers_that_the_file_names_hold_again_on_a_signal(fleet: Fleet) -> None:
    here, [one, other] = fleet.fronts[0], fleet.servers
    before = fleet.file.read_text()

    fleet.file.write_text(json.dumps(front(one.url)))
    here.process.send_signal(signal.SIGHUP)
    wait_for(here, {one.url: "ready"})

    fleet.file.write_text(before)
    here.process.send_signal(signal.SIGHUP)
    wait_for(here, {one.url: "ready", other.url: "ready"})
