"""The Python face, in process, over real workers."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mm_orch import AsyncMuAI, MuAI
from mm_orch.app import open_runtime
from mm_orch.config import Config, load_config
from mm_orch.core.errors import (
    ContextLengthError,
    DeadlineError,
    DrainingError,
    InvalidValueError,
    ModelNotFoundError,
    ModelStoreError,
    MuAIError,
    QueueFullError,
)
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TextPrompt
from mm_orch.orchestration.reports import HealthStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from mm_orch.models.stored import StoredModel

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model")]


def config_of(overrides: Mapping[str, object] | None = None) -> Config:
    return load_config(path=None, environ={}, overrides=overrides or {}).config


@pytest.fixture
async def echo() -> AsyncIterator[AsyncMuAI]:
    async with AsyncMuAI(config_of(), engine="echo") as muai:
        yield muai


def test_plain_code_asks_the_real_model(default_engine: str) -> None:
    with MuAI(config_of()) as muai:
        answer = muai.generate("What is machine learning?", temperature=0.0, max_tokens=24)
        pieces = list(muai.stream("What is machine learning?", temperature=0.0, max_tokens=24))
        status = muai.status()

    assert "learn" in answer.text.lower()
    assert "".join(pieces) == answer.text
    assert answer.engine == default_engine
    assert answer.finish_reason == "length"
    assert answer.usage.num_generated_tokens == 24
    assert 0 < answer.ttft_s <= answer.total_s
    assert status.health.status is HealthStatus.HEALTHY
    assert not any(thread.name == "muai" for thread in threading.enumerate())


def test_the_same_seed_gives_the_same_text_alone_and_among_others() -> None:
    config = config_of({"optimization.pytorch.dtype": "fp32"})
    with MuAI(config, engine="pytorch") as muai:

        def ask(seed: int) -> str:
            return muai.generate("Tell me a story.", seed=seed, max_tokens=24).text

        alone = ask(11)
        texts: dict[int, str] = {}
        threads = [
            threading.Thread(target=lambda seed=seed: texts.update({seed: ask(seed)}))
            for seed in (10, 11, 12, 13)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert texts[11] == alone
    assert len(set(texts.values())) == 4


async def test_leaving_a_stream_early_stops_the_generation(echo: AsyncMuAI) -> None:
    stream = aiter(echo.stream("hello", ignore_eos=True, max_tokens=8000))
    await anext(stream)
    assert echo.status().num_running == 1

    await stream.aclose()

    assert echo.status().num_running == 0


async def test_a_raw_prompt_is_continued_as_it_stands(echo: AsyncMuAI) -> None:
    answer = await echo.generate("one two three", raw=True)

    assert answer.text == "one two three"
    assert answer.finish_reason == "stop"


async def test_a_conversation_goes_through_the_chat_template(echo: AsyncMuAI) -> None:
    # The prompt holds end tokens itself, which the echo of them would take for its own end.
    answer = await echo.chat([{"role": "user", "content": "ping"}], ignore_eos=True, max_tokens=31)

    assert answer.text.endswith("user\nping\nassistant\n")


async def test_a_released_conversation_is_computed_again(echo: AsyncMuAI) -> None:
    prompt = "one two three four five six seven eight nine ten " * 4

    async def ask() -> int:
        answer = await echo.generate(prompt, raw=True, conversation_id="trip")
        return answer.usage.num_cached_tokens

    assert await ask() == 0
    num_reused = await ask()
    assert num_reused > 16

    echo.release_conversation("another")
    assert await ask() == num_reused
    echo.release_conversation("trip")
    assert await ask() == 0


@pytest.mark.parametrize("name", [7, "", "a b", "x" * 129])
async def test_what_cannot_name_a_conversation_is_refused(echo: AsyncMuAI, name: str) -> None:
    with pytest.raises(InvalidValueError, match="conversation_id is"):
        await echo.generate("hello", raw=True, conversation_id=name)
    with pytest.raises(InvalidValueError, match="conversation_id is"):
        echo.release_conversation(name)


async def test_what_a_workflows_answer_is_without_is_told() -> None:
    # Nobody listens on the port of discarded data.
    nowhere = {"workflows.search.provider": "searxng", "workflows.search.url": "http://127.0.0.1:9"}
    async with AsyncMuAI(config_of(nowhere), engine="echo") as muai:
        answer = await muai.generate("Who won?", model="workflow/search_qa")

    [lacking] = answer.lacking
    assert lacking.startswith("search: The web cannot be searched: http://127.0.0.1:9")


async def test_a_stop_string_ends_the_answer(echo: AsyncMuAI) -> None:
    answer = await echo.generate("one two three", raw=True, stop=["three"])

    assert answer.text == "one two "
    assert answer.finish_reason == "stop"


async def test_a_deadline_ends_a_request(echo: AsyncMuAI) -> None:
    await echo.generate("warm", raw=True)

    with pytest.raises(DeadlineError, match=r"not complete after 0.05 s"):
        await echo.generate("hello", ignore_eos=True, max_tokens=8000, timeout_s=0.05)

    assert echo.status().num_running == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "nobody"}, ModelNotFoundError, "smollm2-135m"),
        ({"max_tokens": 0}, InvalidValueError, "max_tokens is 0; allowed: 1 or more"),
        ({"max_tokens": 9000}, ContextLengthError, "at most"),
        ({"temperature": -1.0}, InvalidValueError, "temperature is -1.0; allowed: 0 to 2"),
        ({"temperature": float("nan")}, InvalidValueError, "temperature is nan"),
        ({"temperature": "hot"}, InvalidValueError, "temperature"),
        ({"top_p": 0.0}, InvalidValueError, "top_p is 0.0; allowed: above 0, up to 1"),
        ({"min_tokens": 9, "max_tokens": 5}, InvalidValueError, "min_tokens is 9"),
        ({"logit_bias": {10**6: 1.0}}, InvalidValueError, "logit_bias names token 1000000"),
        ({"stop": [""]}, InvalidValueError, "none of them empty"),
        ({"temprature": 1.0}, InvalidValueError, "temprature"),
    ],
)
async def test_a_wrong_option_is_named_with_what_is_allowed(
    echo: AsyncMuAI, options: dict[str, object], error: type[MuAIError], words: str
) -> None:
    with pytest.raises(error) as refusal:
        await echo.generate("hello", **options)  # type: ignore[arg-type]  # wrong on purpose

    assert words in str(refusal.value)


async def test_a_prompt_over_the_context_is_refused_before_any_work(echo: AsyncMuAI) -> None:
    with pytest.raises(ContextLengthError, match="8192 tokens of prompt and output together"):
        await echo.generate("word " * 9000)
    with pytest.raises(ContextLengthError, match="has at least"):
        await echo.generate("x" * 5_000_000)


async def test_over_the_queue_requests_are_refused_at_once() -> None:
    config = config_of(
        {
            "monitoring.server.queue_capacity": 2,
            "optimization.batcher.max_batch_size": 1,
        }
    )
    async with AsyncMuAI(config, engine="echo") as muai:
        # While the model still loads, everything waits.
        waiting = [asyncio.create_task(muai.generate(str(i), raw=True)) for i in range(2)]
        # One turn of the loop each, and both have taken their places.
        await asyncio.sleep(0)
        assert muai.status().num_waiting == 2

        with pytest.raises(QueueFullError, match=r"server\.queue_capacity is 2"):
            await muai.generate("one too many")

        assert [answer.text for answer in await asyncio.gather(*waiting)] == ["0", "1"]


async def test_who_waits_for_a_model_is_told_of_the_end_and_the_end_waits_for_no_download() -> None:
    may_end = threading.Event()

    def download() -> StoredModel:
        may_end.wait()
        raise ModelStoreError("given up")

    config = config_of()
    try:
        async with open_runtime(config, engine="echo") as runtime:
            model = config.default_model_name
            plan = runtime.manager.plans[model]
            runtime.manager.plans[model] = replace(plan, ensure_files=download)
            request = GenerationRequest(
                request_id="a", prompt=TextPrompt("Hi"), options=GenerationOptions()
            )
            opening = runtime.orchestrator.open(request)
            waiting = asyncio.ensure_future(opening.__aenter__())
            # One turn of the loop, and it has taken its place.
            await asyncio.sleep(0)
            assert runtime.status.status().num_waiting == 1
            runtime.orchestrator.begin_drain()
            runtime.orchestrator.break_off_all()

            with pytest.raises(DrainingError, match="shutting down"):
                await waiting
            await runtime.orchestrator.wait_until_idle()
    finally:
        may_end.set()


async def test_an_engine_that_cannot_run_says_why() -> None:
    async with AsyncMuAI(config_of(), engine="vllm") as muai:
        with pytest.raises(MuAIError, match="vllm: not installed"):
            await muai.generate("hello")

        assert muai.status().health.status is HealthStatus.UNHEALTHY


def test_a_closed_face_says_so() -> None:
    muai = MuAI(config_of(), engine="echo")
    muai.close()
    muai.close()

    with pytest.raises(MuAIError, match="closed"):
        muai.generate("hello")


def test_an_interrupt_returns_only_when_the_work_has_let_go() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            # As Ctrl-C does, while the caller waits.
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            # Letting go may itself take turns of the loop.
            for _ in range(100):
                await asyncio.sleep(0)
            ended.append("let go")

    # Where the tests were started in a shell's background, this signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with MuAI(config_of(), engine="echo") as muai:
            with pytest.raises(KeyboardInterrupt):
                muai.wait(work())

            assert ended == ["let go"]
            assert muai.generate("Still there?", max_tokens=2).usage.num_generated_tokens == 2
    finally:
        signal.signal(signal.SIGINT, before)
