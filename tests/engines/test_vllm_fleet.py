"""One server in front of two of vLLM's own: conversations stay, and a killed one is passed."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.benchmarking.server_process import ServerProcess as Server
from mm_orch.benchmarking.server_process import free_port
from tests.available import require_engine
from tests.integration.fleets import endpoints_of, front, series, wait_for
from tests.streams import CHAT, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from tests.processes import ServerProcess
    from tests.streams import Told

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

NUM_TURNS = 3
NUM_AT_ONCE = 6
# A start takes 25 to 45 s, and more on a busy machine.
_START_S = 400
_ANSWER_S = 200


@pytest.fixture(scope="module")
def fleet(
    builtin_model: StoredModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Server]]:
    """Two servers, each on a core of its own where there are two."""
    require_engine("vllm")
    folder = tmp_path_factory.mktemp("vllm")
    cores = sorted(os.sched_getaffinity(0))
    servers = [start_vllm(builtin_model, folder, cores[number % len(cores)]) for number in range(2)]
    try:
        for server in servers:
            server.wait_until_ready(_START_S)
        yield servers
    finally:
        for server in servers:
            server.stop()


def start_vllm(model: StoredModel, folder: Path, core: int) -> Server:
    port = free_port()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", model.directory, "--served-model-name", model.name),
        *("--dtype", "bfloat16", "--max-model-len", "2048", "--enforce-eager"),
        *("--host", "127.0.0.1", "--port", str(port), "--enable-prompt-tokens-details"),
    ]
    return Server(
        command,
        port=port,
        ready_path="/health",
        log=folder / f"{port}.log",
        environment={
            **os.environ,
            "VLLM_CPU_OMP_THREADS_BIND": str(core),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        },
    )


def ask(server: ServerProcess, messages: list[dict[str, str]]) -> Reading:
    body: dict[str, Any] = {
        "model": "theirs",
        "messages": messages,
        "max_tokens": 12,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }
    return Reading(server, CHAT, body, timeout_s=_ANSWER_S)


def question(about: str) -> dict[str, str]:
    # More than a block of vLLM's on CPUs, which is 128 tokens.
    return {"role": "user", "content": f"Tell me of {about}. " + "The sea is wide and deep. " * 40}


def cached_tokens(told: Told) -> int:
    details = told.usages[-1].get("prompt_tokens_details") or {}
    return int(details.get("cached_tokens") or 0)


def test_conversations_stay_with_their_server_and_a_killed_one_is_passed(
    fleet: list[Server], launch: Callable[..., ServerProcess]
) -> None:
    urls = [server.url for server in fleet]
    here = launch(config=front(*urls))
    wait_for(here, dict.fromkeys(urls, "ready"))

    # -- a conversation finds what was computed of it
    messages, found = [question("tides")], []
    for _ in range(NUM_TURNS):
        told = ask(here, messages).result()
        assert (told.num_ends, told.errors) == (1, [])
        found.append(cached_tokens(told))
        messages += [{"role": "assistant", "content": told.text}, question("winds")]
    assert found[0] == 0
    assert all(later > before for before, later in itertools.pairwise(found))

    # -- many at once are shared out
    readings = [ask(here, [question(f"island {number}")]) for number in range(NUM_AT_ONCE)]
    answers = [reading.result() for reading in readings]
    assert {(one.num_ends, len(one.errors)) for one in answers} == {(1, 0)}
    assert series(here, 'remote_requests_total{model="theirs",rule="load"}') >= NUM_AT_ONCE
    assert all(one["num_held_tokens"] > 0 for one in endpoints_of(here).values())

    # -- one is killed: what has no token yet, and what comes, is answered by the other
    os.killpg(fleet[0].pid, signal.SIGKILL)
    readings = [ask(here, [question(f"harbour {number}")]) for number in range(NUM_AT_ONCE)]
    answers = [reading.result() for reading in readings]
    assert {(one.num_ends, len(one.errors)) for one in answers} == {(1, 0)}
    wait_for(here, {urls[0]: "failed", urls[1]: "ready"})
    assert endpoints_of(here)[urls[0]]["circuit"] == "open"
