"""One server in front of several others: all real processes, and real registries of servers."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.integration.fleets import ECHO, PATIENCE_S, endpoints_of, front, series, wait_for
from tests.kubernetes_api import OPENSSL, endpoint_slice, kubernetes_api, make_credentials
from tests.name_server import named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.processes import ServerProcess

pytestmark = pytest.mark.model

CHAT = {
    "model": "theirs",
    "messages": [{"role": "user", "content": "One two three."}],
    "max_tokens": 30,
    "temperature": 0,
    "ignore_eos": True,
    "stream": True,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stream ended."""

    text: str
    is_whole: bool
    is_begun: bool


def ask(
    server: ServerProcess, num_tokens: int = 30, begun: threading.Event | None = None
) -> Outcome:
    text, last = "", ""
    with server.open_stream({**CHAT, "max_tokens": num_tokens}) as stream:
        try:
            for last in stream:
                for choice in [] if last == "[DONE]" else json.loads(last).get("choices", []):
                    text += choice["delta"].get("content") or ""
                if text and begun is not None:
                    begun.set()
        except OSError:
            last = "broken"
    return Outcome(text, last == "[DONE]", bool(text))


def test_a_killed_server_fails_no_request_that_had_no_token_yet(
    launch: Callable[..., ServerProcess],
) -> None:
    lost, other = launch(config=ECHO), launch(config=ECHO)
    here = launch(config=front(lost.url, other.url))
    wait_for(here, {lost.url: "ready", other.url: "ready"})
    expected = ask(here)
    assert expected.is_whole

    # It takes requests and answers none: they have no token when it is killed.
    lost.process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(ask, here) for _ in range(16)]
        pause = threading.Event()
        while not endpoints_of(here)[lost.url]["num_running"]:
            pause.wait(0.02)
        lost.process.kill()
        outcomes = [answer.result(PATIENCE_S) for answer in answers]

    assert outcomes == [expected] * 16
    assert series(here, 'request_failovers_total{model="theirs"}') >= 1
    wait_for(here, {lost.url: "failed", other.url: "ready"})
    health = here.request("GET", "/health").json
    assert health["status"] == "degraded"
    assert f"1 of 2 servers fail: {lost.url}" in " ".join(health["degradation_reasons"])
    assert series(here, 'remote_endpoints{model="theirs",state="ready"}') == 1
    assert series(here, 'remote_endpoints{model="theirs",state="failed"}') == 1
    assert ask(here) == expected


def test_a_server_killed_under_load_ends_only_what_it_had_begun(
    launch: Callable[..., ServerProcess],
) -> None:
    lost, other = launch(config=ECHO), launch(config=ECHO)
    here = launch(config=front(lost.url, other.url))
    wait_for(here, {lost.url: "ready", other.url: "ready"})
    begun, is_over = threading.Event(), threading.Event()

    def keep_asking() -> list[Outcome]:
        outcomes = []
        while not is_over.is_set():
            outcomes.append(ask(here, 200, begun))
        # And after the loss, which all have seen by now.
        return [*outcomes, ask(here, 20), ask(here, 20)]

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(keep_asking) for _ in range(8)]
        assert begun.wait(PATIENCE_S)
        lost.process.kill()
        wait_for(here, {lost.url: "failed", other.url: "ready"})
        is_over.set()
        by_client = [client.result(PATIENCE_S) for client in running]

    cut = [one for outcomes in by_client for one in outcomes if not one.is_whole]
    assert [one for one in cut if not one.is_begun] == []
    assert all(one.is_whole for outcomes in by_client for one in outcomes[-2:])


@pytest.mark.skipif(OPENSSL is None, reason="openssl, which makes the certificate")
async def test_pods_join_and_leave_while_requests_run(
    launch: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    first, second = launch(config=ECHO), launch(config=ECHO)
    slices = {
        one.url: endpoint_slice("127.0.0.1", port=int(urlsplit(one.url).port or 0))
        for one in (first, second)
    }
    async with kubernetes_api(make_credentials(folder)) as api:
        await api.set([slices[first.url]])
        config = front(
            "kubernetes:http://vllm.models",
            interval_s=600,
            kubernetes_url=api.url,
            kubernetes_credentials=str(folder),
        )
        here = await asyncio.to_thread(launch, config=config)
        await asyncio.to_thread(wait_for, here, {first.url: "ready"})
        # The interval is long: what comes now is told by the watch.
        await api.watched.acquire()
        await api.set(list(slices.values()))
        await asyncio.to_thread(wait_for, here, {first.url: "ready", second.url: "ready"})

        # More than two of them: both servers have some.
        begun = [threading.Event() for _ in range(6)]
        long = [asyncio.create_task(asyncio.to_thread(ask, here, 3000, one)) for one in begun]
        for one in begun:
            assert await asyncio.to_thread(one.wait, PATIENCE_S)
        await api.watched.acquire()
        await api.set([slices[second.url]])
        outcomes = await asyncio.gather(*long)
        await asyncio.to_thread(wait_for, here, {second.url: "ready"})

        assert all(one.is_whole for one in outcomes)
        assert (await asyncio.to_thread(ask, here)).is_whole
        assert series(here, 'remote_endpoint_changes_total{change="left",model="theirs"}') == 1


async def test_servers_that_dns_names_join_and_leave(launch: Callable[..., ServerProcess]) -> None:
    first, second = launch(config=ECHO), launch(config=ECHO)
    name = "_http._tcp.vllm.models.svc"

    def records(*servers: ServerProcess) -> dict[tuple[str, str], list[str]]:
        return {(name, "SRV"): [f"0 0 {urlsplit(one.url).port} localhost." for one in servers]}

    def url_of(server: ServerProcess) -> str:
        return f"http://localhost:{urlsplit(server.url).port}"

    async with named(records(first)) as (server, port):
        config = front(f"srv:http://{name}", dns_server="127.0.0.1", dns_port=port)
        here = await asyncio.to_thread(launch, config=config)
        await asyncio.to_thread(wait_for, here, {url_of(first): "ready"})
        server.zone = records(first, second)
        await asyncio.to_thread(wait_for, here, {url_of(first): "ready", url_of(second): "ready"})
        server.zone = records(second)
        await asyncio.to_thread(wait_for, here, {url_of(second): "ready"})

        assert (await asyncio.to_thread(ask, here)).is_whole
