"""Requests that a model's engine cannot do: another engine answers them beside it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import UnsupportedError
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TextPrompt
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.optimization.stand_in import name_stand_in
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mm_orch.app import Runtime
    from mm_orch.models.stored import StoredModel
    from mm_orch.orchestration.generation import Generation
    from mm_orch.orchestration.reports import ModelReport, StandInReport

pytest.importorskip("openvino_genai", reason="openvino: not installed")
pytestmark = pytest.mark.model

MODEL = "smollm2-135m"
# Enough for a worker to be killed before the last is said.
NUM_WORDS = 12
PLAIN = GenerationOptions(max_tokens=4, temperature=0.0)
SCHEMA = {
    "type": "object",
    "properties": {
        "list": {
            "type": "array",
            # A pattern is beyond OpenVINO.
            "items": {"type": "string", "pattern": "^(sun|sea)$"},
            "minItems": NUM_WORDS,
            "maxItems": NUM_WORDS,
        }
    },
    "required": ["list"],
    "additionalProperties": False,
}
PLAIN_SCHEMA = {
    "type": "object",
    "properties": {
        "list": {
            "type": "array",
            "items": {"enum": ["sun", "sea"]},
            "minItems": NUM_WORDS,
            "maxItems": NUM_WORDS,
        }
    },
    "required": ["list"],
}
SHAPED = GenerationOptions(
    max_tokens=500, temperature=0.0, guide=JsonSchemaShape(json.dumps(SCHEMA))
)
BEYOND_OPENVINO = [
    (GenerationOptions(max_tokens=4, repetition_penalty=1.2), "repetition_penalty is 1.2"),
    (GenerationOptions(max_tokens=4, logit_bias={5: 1.0}), "logit_bias is {5: 1.0}"),
    (GenerationOptions(max_tokens=4, num_logprobs=2), "num_logprobs is 2"),
    (SHAPED, "cannot keep answers to this shape"),
]


@asynccontextmanager
async def run(**settings: object) -> AsyncIterator[Runtime]:
    overrides = {"optimization.engine_preference": ["openvino", "pytorch"]} | {
        key.replace("__", "."): value for key, value in settings.items()
    }
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with open_runtime(config) as runtime:
        yield runtime


def ask(options: GenerationOptions, timeout_s: float | None = None) -> GenerationRequest:
    return GenerationRequest(
        request_id="r",
        model=MODEL,
        prompt=TextPrompt("The sun and the sea"),
        options=options,
        timeout_s=timeout_s,
    )


def report_of(runtime: Runtime) -> ModelReport:
    [report] = runtime.status.status().models
    return report


async def answer(runtime: Runtime, request: GenerationRequest) -> tuple[str, str, str]:
    """Return the engine, the reason for it and the text."""
    async with runtime.orchestrator.open(request) as generation:
        text = "".join([delta.text async for delta in generation])
        reason = generation.fallback.reason if generation.fallback else ""
        return generation.engine, reason, text


def stand_in_of(runtime: Runtime) -> StandInReport:
    stand_in = report_of(runtime).stand_in
    assert stand_in is not None
    return stand_in


async def read_and_kill(generation: Generation, find_pid: Callable[[], int | None]) -> str:
    """Return the whole text; the worker is killed when it begins."""
    text = ""
    async for delta in generation:
        is_first, text = not text, text + delta.text
        if is_first:
            worker_pid = find_pid()
            assert worker_pid is not None
            os.kill(worker_pid, signal.SIGKILL)
    return text


@pytest.mark.usefixtures("builtin_model")
async def test_another_engine_answers_what_the_models_own_cannot_do() -> None:
    async with run() as runtime:
        for options, reason in BEYOND_OPENVINO:
            engine, told, text = await answer(runtime, ask(options))
            assert (engine, reason in told) == ("pytorch", True), told
        assert set(json.loads(text)["list"]) <= {"sun", "sea"}

        assert (await answer(runtime, ask(PLAIN)))[:2] == ("openvino", "")
        report = report_of(runtime)
        assert (report.engine, report.wanted_engine) == ("openvino", None)
        assert report.stand_in is not None
        assert (report.stand_in.engine, report.stand_in.phase) == ("pytorch", ModelPhase.READY)
        assert not runtime.status.health().degradation_reasons

        worker_pid = report.stand_in.worker_pid
        assert worker_pid is not None
        await runtime.orchestrator.unload_model(MODEL)
        assert report_of(runtime).stand_in is None
        with pytest.raises(ProcessLookupError):
            os.kill(worker_pid, 0)


@pytest.mark.usefixtures("builtin_model")
async def test_an_answer_goes_on_when_the_stand_in_is_killed_and_it_leaves_once_nobody_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with run() as runtime:
        async with runtime.orchestrator.open(ask(SHAPED)) as generation:
            text = await read_and_kill(generation, lambda: stand_in_of(runtime).worker_pid)

            assert len(json.loads(text)["list"]) == NUM_WORDS
            [failover] = generation.failovers
            assert (failover.from_engine, failover.to_engine) == ("pytorch", "pytorch")
            # The model's own engine has nothing to do with it.
            assert report_of(runtime).circuits["openvino"] == "closed"
            assert runtime.manager.find_supervisor(name_stand_in(MODEL)) is not None
            # It holds from the end of this request on.
            monkeypatch.setattr("mm_orch.optimization.stand_in._IDLE_LIMIT_S", 0.05)
        async with asyncio.timeout(60):
            while runtime.manager.find_supervisor(name_stand_in(MODEL)) is not None:  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

        assert report_of(runtime).phase is ModelPhase.READY


@pytest.mark.usefixtures("builtin_model")
async def test_a_guided_answer_that_openvino_began_goes_on_inside_its_json() -> None:
    options = msgspec.structs.replace(SHAPED, guide=JsonSchemaShape(json.dumps(PLAIN_SCHEMA)))
    async with run() as runtime, runtime.orchestrator.open(ask(options)) as generation:
        assert (generation.engine, generation.fallback) == ("openvino", None)
        text = await read_and_kill(generation, lambda: report_of(runtime).worker_pid)

        assert len(json.loads(text)["list"]) == NUM_WORDS
        [failover] = generation.failovers
        assert (failover.from_engine, failover.to_engine) == ("openvino", "pytorch")


@pytest.mark.usefixtures("builtin_model")
async def test_without_falling_back_the_request_is_refused() -> None:
    async with run(optimization__fallback_on_error=False) as runtime:
        for options, reason in BEYOND_OPENVINO:
            with pytest.raises(UnsupportedError, match=reason.replace("{", r"\{")):
                await answer(runtime, ask(options))
        assert report_of(runtime).stand_in is None


async def test_where_one_model_fits_it_takes_the_place_of_the_models_own(
    builtin_model: StoredModel,  # noqa: ARG001 - must be there
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mm_orch.optimization.residency._MIN_STAY_S", 0.0)
    monkeypatch.setattr("mm_orch.optimization.residency._STAY_FACTOR", 0.0)
    async with run(system__max_cached_models=1) as runtime:
        await answer(runtime, ask(PLAIN))
        engine, _, _ = await answer(runtime, ask(BEYOND_OPENVINO[0][0]))

        assert engine == "pytorch"
        assert report_of(runtime).phase is ModelPhase.UNLOADED
        assert (await answer(runtime, ask(PLAIN)))[0] == "openvino"
