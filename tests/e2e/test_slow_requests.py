"""The console alone says why a request was slow; each reason is really made to happen."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.console_browser import expect, keep_picture, needs_chromium, watched
from tests.processes import ServerProcess, start_server
from tests.streams import CHAT, TEXT, Reading, kill_worker, wait_for_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

MODEL = "smollm2-135m"
FIRST, SECOND = "pytorch", "onnx"
MAX_BATCH_SIZE = 8
# Ids of ordinary words of the model.
FIRST_WORD, LAST_WORD = 1000, 40_000
NUM_LONG_PROMPT_TOKENS = 3000
STORY = [{"role": "user", "content": "Tell me a long story about the sea."}]

pytestmark = [
    pytest.mark.model,
    needs_chromium,
]


@pytest.fixture(scope="module")
def server(
    builtin_model: object,  # noqa: ARG001 - must be there before the server starts
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    server = start_server(
        tmp_path_factory.mktemp("slow"),
        config={
            "models": {MODEL: {"engines": [FIRST, SECOND]}},
            "optimization": {"batcher": {"max_batch_size": MAX_BATCH_SIZE}},
        },
    )
    yield server
    server.stop()


def ask(server: ServerProcess, request_id: str, **fields: Any) -> None:
    body = {"messages": STORY, "ignore_eos": True, "temperature": 0.2, **fields}
    path = TEXT if "prompt" in fields else CHAT
    if path == TEXT:
        del body["messages"]
    reply = server.request("POST", path, body, headers={"X-Request-ID": request_id})
    assert reply.status == 200, reply.body


def assert_explained(
    browser: Browser, server: ServerProcess, request_id: str, sentence: str, picture: str
) -> None:
    """Open the console at the request and read what it says first of why it was slow."""
    with watched(browser, server, is_made_up=False) as page:
        page.goto(f"{page.url.partition('#')[0]}#/requests/{request_id}")
        first = page.locator(".why-first")
        expect(first).to_have_text(re.compile(sentence), timeout=15_000)
        keep_picture(page, picture)


def test_a_request_that_waited_for_a_full_batch(browser: Browser, server: ServerProcess) -> None:
    with ThreadPoolExecutor(2 * MAX_BATCH_SIZE) as pool:
        before = [
            pool.submit(ask, server, f"before-{number}", max_tokens=120)
            for number in range(MAX_BATCH_SIZE + 4)
        ]
        # It is its place behind them that is to be explained.
        wait_for_model(server, MODEL, num_running=MAX_BATCH_SIZE, num_waiting=4)
        ask(server, "waited", max_tokens=4)
        for one in before:
            one.result()

    assert_explained(
        browser,
        server,
        "waited",
        rf"Waited .* of .*: {MAX_BATCH_SIZE} requests ran and 4 waited before it"
        rf" \(the batch holds {MAX_BATCH_SIZE}\)",
        "queue",
    )


def test_a_request_with_a_long_prompt(browser: Browser, server: ServerProcess) -> None:
    drawn = random.Random(7)  # noqa: S311 - words, no secret
    prompt = [drawn.randrange(FIRST_WORD, LAST_WORD) for _ in range(NUM_LONG_PROMPT_TOKENS)]

    ask(server, "long", prompt=prompt, max_tokens=4)

    assert_explained(
        browser,
        server,
        "long",
        r"Long prompt: 3,000 tokens took .* to prefill, 0 came from the cache",
        "long-prompt",
    )


def test_a_request_that_shared_its_steps(browser: Browser, server: ServerProcess) -> None:
    with ThreadPoolExecutor(MAX_BATCH_SIZE) as pool:
        asked = [
            pool.submit(ask, server, f"shared-{number}", max_tokens=100)
            for number in range(MAX_BATCH_SIZE)
        ]
        for one in asked:
            one.result()

    assert_explained(
        browser,
        server,
        "shared-0",
        rf"Full batch: its steps were shared with up to {MAX_BATCH_SIZE} sequences",
        "full-batch",
    )


def test_a_request_whose_engine_was_killed(browser: Browser, server: ServerProcess) -> None:
    body = {"messages": STORY, "ignore_eos": True, "max_tokens": 120, "stream": True}
    reading = Reading(server, CHAT, body)
    assert reading.wait_for_pieces(20)
    kill_worker(server, MODEL, FIRST)
    told = reading.result()
    assert told.moves in ([(FIRST, SECOND)], [(FIRST, FIRST)])
    [newest] = server.request("GET", "/admin/requests?limit=1").json["requests"]

    assert_explained(
        browser,
        server,
        newest["request_id"],
        rf"Engine {FIRST} was lost after \d+ tokens; \w+ went on .* later",
        "failover",
    )
