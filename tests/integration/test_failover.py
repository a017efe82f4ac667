"""Answers that go on when their worker is lost: the whole path but HTTP, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import (
    DrainingError,
    EngineCrashedError,
    EngineFailedError,
    EngineOutOfMemoryError,
    FailoverError,
    ModelUnavailableError,
    PoisonedRequestError,
    UnsupportedError,
)
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TokensPrompt
from tests.odd_engines import BREAK, DIE, INVENT, RUN_OUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.app import Runtime
    from mm_orch.orchestration.running import RunningGeneration
    from tests.odd_engines import Switch

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model", "odd_engines")]

MODEL = "smollm2-135m"
# Tokens that are whole words each, so that text tells them apart.
WORDS = (504, 338, 253, 216, 28, 30)


@asynccontextmanager
async def run(*engines: str, **settings: object) -> AsyncIterator[Runtime]:
    overrides = {f"models.{MODEL}.engines": list(engines), **settings}
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with open_runtime(config) as runtime:
        yield runtime


def ask(*prompt: int, max_tokens: int = 12, **options: object) -> GenerationRequest:
    wanted = GenerationOptions(
        max_tokens=max_tokens, ignore_eos=True, **{"temperature": 0.0, **options}
    )
    return GenerationRequest(request_id="r", prompt=TokensPrompt(prompt), options=wanted)


async def read(generation: RunningGeneration) -> str:
    return "".join([delta.text async for delta in generation])


async def answer(runtime: Runtime, request: GenerationRequest) -> str:
    async with runtime.orchestrator.open(request) as generation:
        return await read(generation)


async def kill_worker(runtime: Runtime) -> int:
    worker = await runtime.manager.acquire(MODEL)
    os.kill(worker.pid, signal.SIGKILL)
    return worker.pid


async def answer_with_a_kill(runtime: Runtime, request: GenerationRequest) -> tuple[str, int]:
    """Kill the worker when the first text is there; return the whole and the killed one's pid."""
    async with runtime.orchestrator.open(request) as generation:
        deltas = aiter(generation)
        text = (await anext(deltas)).text
        pid = await kill_worker(runtime)
        async for delta in deltas:
            text += delta.text
        assert generation.failovers
        assert (
            generation.usage.num_generated_tokens
            == (request.options.max_tokens or 0) * request.options.num_choices
        )
        return text, pid


@pytest.mark.parametrize("engines", [("echo",), ("odd", "spare")])
async def test_a_stream_whose_worker_is_killed_says_every_token_once(
    engines: tuple[str, ...],
) -> None:
    request = ask(*WORDS, max_tokens=60_000 // len(WORDS) // 8)
    async with run(*engines) as runtime:
        undisturbed = await answer(runtime, request)

        text, killed_pid = await answer_with_a_kill(runtime, request)

        assert text == undisturbed
        worker = await runtime.manager.acquire(MODEL)
        assert worker.pid != killed_pid
        assert worker.engine == engines[-1]


async def test_all_streams_of_a_worker_that_is_killed_go_on() -> None:
    requests = [ask(*WORDS[first:], max_tokens=900) for first in range(4)]
    async with run("odd", "spare") as runtime:
        undisturbed = [await answer(runtime, request) for request in requests]
        await asyncio.sleep(0)

        async def follow(generation: RunningGeneration) -> str:
            return await read(generation)

        async with asyncio.TaskGroup() as tasks:
            opened = [runtime.orchestrator.open(request) for request in requests]
            generations = [await one.__aenter__() for one in opened]
            firsts = [await anext(aiter(generation)) for generation in generations]
            await kill_worker(runtime)
            rests = [tasks.create_task(follow(generation)) for generation in generations]
        for one in opened:
            await one.__aexit__(None, None, None)

    texts = [first.text + rest.result() for first, rest in zip(firsts, rests, strict=True)]
    assert texts == undisturbed


async def test_every_choice_of_a_request_goes_on_after_what_it_had() -> None:
    request = ask(*WORDS, max_tokens=700, num_choices=3)
    async with run("odd", "spare") as runtime:

        async def collect(*, is_killing: bool) -> list[str]:
            texts = ["", "", ""]
            async with runtime.orchestrator.open(request) as generation:
                async for delta in generation:
                    texts[delta.index] += delta.text
                    if is_killing and not generation.failovers and all(texts):
                        is_killing = False
                        await kill_worker(runtime)
                assert len(generation.failovers) == (0 if undisturbed is None else 1)
            return texts

        undisturbed = None
        undisturbed = await collect(is_killing=False)
        assert await collect(is_killing=True) == undisturbed


@pytest.mark.parametrize("fault", [RUN_OUT, BREAK, INVENT])
async def test_a_step_that_fails_is_tried_elsewhere_in_the_end(fault: int) -> None:
    kinds = {RUN_OUT: EngineOutOfMemoryError, BREAK: EngineFailedError, INVENT: EngineFailedError}
    async with run("odd", "spare") as runtime:
        # One request moves no model: the engine may be right, and the request odd.
        for _ in range(2):
            with pytest.raises(kinds[fault]):
                await answer(runtime, ask(fault, *WORDS))
        assert (await runtime.manager.acquire(MODEL)).engine == "odd"

        # The third in a row does, and gains by it.
        assert await answer(runtime, ask(fault, *WORDS))
        assert (await runtime.manager.acquire(MODEL)).engine == "spare"


async def test_bad_requests_move_nothing() -> None:
    async with run("forgetful", "spare") as runtime:
        for _ in range(5):
            with pytest.raises(UnsupportedError, match=r"logit_bias.*forgetful.*cannot do"):
                await answer(runtime, ask(*WORDS, logit_bias={5: 1.0}))

        supervisor = runtime.manager.find_supervisor(MODEL)
        assert supervisor is not None
        assert {c.state.value for c in supervisor.ladder.circuit_by_engine.values()} == {"closed"}


async def test_a_request_that_kills_two_workers_is_refused_as_poison() -> None:
    async with run("odd") as runtime:
        with pytest.raises(PoisonedRequestError, match="2 workers of smollm2-135m ended"):
            await answer(runtime, ask(DIE, *WORDS))

        assert await answer(runtime, ask(*WORDS))


async def test_who_only_ran_beside_a_poisonous_request_is_answered() -> None:
    async with run("odd", **{"orchestration.max_failovers": 5}) as runtime:
        undisturbed = await answer(runtime, ask(*WORDS, max_tokens=3000))

        poison = asyncio.create_task(answer(runtime, ask(DIE, *WORDS)))
        beside = [asyncio.create_task(answer(runtime, ask(*WORDS, max_tokens=3000)))]
        results = await asyncio.gather(poison, *beside, return_exceptions=True)

    assert isinstance(results[0], PoisonedRequestError)
    assert results[1] == undisturbed


async def test_a_request_goes_on_no_oftener_than_it_may() -> None:
    async with run("echo", **{"orchestration.max_failovers": 0}) as runtime:
        with pytest.raises(EngineCrashedError, match="SIGKILL"):
            await answer_with_a_kill(runtime, ask(*WORDS, max_tokens=5000))


async def test_without_fallback_the_caller_gets_the_engines_error() -> None:
    async with run("echo", "spare", **{"optimization.fallback_on_error": False}) as runtime:
        with pytest.raises(EngineCrashedError, match="SIGKILL"):
            await answer_with_a_kill(runtime, ask(*WORDS, max_tokens=5000))
        assert (await runtime.manager.acquire(MODEL)).engine == "echo"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"presence_penalty": 0.5}, "penalties"),
        ({"repetition_penalty": 1.2}, "penalties"),
        ({"seed": 4, "temperature": 0.7}, "a seed"),
    ],
)
async def test_what_the_next_engine_cannot_take_over_ends_with_the_reason(
    odd_engines: Switch, options: dict[str, object], says: str
) -> None:
    async with run("refusing", "forgetful") as runtime:
        request = ask(*WORDS, max_tokens=5000, **options)
        await runtime.manager.acquire(MODEL)
        # It could continue its own answer, were it back before the next one is asked.
        odd_engines.turn_on()
        with pytest.raises(FailoverError, match=rf"forgetful cannot continue it.*{says}"):
            await answer_with_a_kill(runtime, request)


async def test_a_plain_sampled_answer_goes_on_anywhere() -> None:
    async with run("odd", "forgetful") as runtime:
        request = ask(*WORDS, max_tokens=3000, temperature=0.7)

        text, _ = await answer_with_a_kill(runtime, request)

    assert text


async def test_the_end_of_the_server_ends_a_search_for_another_worker(odd_engines: Switch) -> None:
    async with (
        run("odd", "refusing") as runtime,
        runtime.orchestrator.open(ask(*WORDS, max_tokens=6000)) as generation,
    ):
        reading = asyncio.create_task(read(generation))
        worker = await runtime.manager.acquire(MODEL)
        odd_engines.turn_on()
        os.kill(worker.pid, signal.SIGKILL)
        await worker.wait_until_idle()
        runtime.orchestrator.break_off_all()
        with pytest.raises((DrainingError, ModelUnavailableError)):
            await reading
