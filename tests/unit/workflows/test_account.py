"""What a run states of itself: one end, an end for each step, each step's place in the trace."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import EngineFailedError, QueueFullError
from mm_orch.core.trace import CURRENT, TraceContext
from mm_orch.core.workflow_events import WorkflowFinished, WorkflowStepFinished
from mm_orch.workflows.account import Watch
from tests.unit.api.scripted_generator import HOLD, EventList, ScriptedGenerator, say
from tests.unit.storage.scene import OWNER, fill, open_store
from tests.unit.workflows.scene import make_workflows
from tests.unit.workflows.test_chat_generate import answer, going_on, make_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions
    from mm_orch.workflows.running import Workflows

ROOT = TraceContext(0xA1, 0xB2, is_sampled=True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlSessions]:
    async with open_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def traced() -> Iterator[None]:
    token = CURRENT.set(ROOT)
    yield
    CURRENT.reset(token)


class Scene:
    """Workflows that are watched, with a trace whose spans are numbered from 1."""

    def __init__(self, generator: ScriptedGenerator, store: SqlSessions) -> None:
        self.told = EventList()
        self.num_spans = 0
        watch = Watch(self.told, time.monotonic, self._start)
        self.workflows: Workflows = make_workflows(generator, store, watch=watch)

    @property
    def steps(self) -> list[WorkflowStepFinished]:
        return [one for one in self.told.events if isinstance(one, WorkflowStepFinished)]

    @property
    def end(self) -> WorkflowFinished:
        [end] = [one for one in self.told.events if isinstance(one, WorkflowFinished)]
        return end

    def _start(self, parent: TraceContext | None) -> TraceContext:
        assert parent == ROOT
        self.num_spans += 1
        return TraceContext(parent.trace_id, self.num_spans, is_sampled=True)


@pytest.mark.usefixtures("traced")
async def test_each_step_is_a_span_below_the_request_and_its_work_stands_below_it(
    store: SqlSessions,
) -> None:
    places: list[TraceContext | None] = []
    generator = ScriptedGenerator(on_open=lambda: places.append(CURRENT.get()))
    scene = Scene(generator, store)

    await answer(scene.workflows, make_call("Hi", caller="alice"))

    assert [(one.step, one.outcome, one.num_attempts) for one in scene.steps] == [
        ("window", "ended", 1),
        ("answer", "ended", 1),
        ("keep", "ended", 1),
    ]
    spans = [one.trace for one in scene.steps]
    assert [span.span_id for span in spans if span] == [1, 2, 3]
    assert {one.parent_span_id for one in scene.steps} == {ROOT.span_id}
    # What the answering step asks of a model stands below that step.
    assert places == [spans[1]]
    assert CURRENT.get() == ROOT
    bounds = [(one.begin_s, one.begin_s + one.duration_s) for one in scene.steps]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(bounds))


async def test_a_run_states_its_end_once_with_all_that_it_took(store: SqlSessions) -> None:
    scene = Scene(ScriptedGenerator(say("Hel", "lo")), store)

    await answer(scene.workflows, make_call("Hi", caller="alice"))

    end = scene.end
    assert (end.workflow, end.status, end.is_partial) == ("chat_generate", "success", False)
    assert (end.caller, end.error_type) == ("alice", None)
    assert (end.num_prompt_tokens, end.num_generated_tokens, end.num_cached_tokens) == (7, 2, 3)
    assert end.ttft_s is not None
    assert 0 < end.ttft_s <= end.total_s
    # Without a trace no step has a place in one.
    assert {one.trace for one in scene.steps} == {None}


async def test_what_models_are_asked_is_known_to_be_a_workflows(store: SqlSessions) -> None:
    generator = ScriptedGenerator()

    await answer(Scene(generator, store).workflows, make_call("Hi"))

    assert [request.workflow for request in generator.requests] == ["chat_generate"]


async def test_a_step_that_fails_says_why_and_so_does_the_run(store: SqlSessions) -> None:
    scene = Scene(ScriptedGenerator([EngineFailedError("broken")]), store)

    with pytest.raises(EngineFailedError):
        await answer(scene.workflows, make_call("Hi"))

    failed = scene.steps[-1]
    assert (failed.step, failed.outcome) == ("answer", "failed")
    assert (failed.error_type, failed.message) == ("EngineFailedError", "broken")
    assert (scene.end.status, scene.end.error_type) == ("error", "EngineFailedError")


async def test_a_run_without_a_step_is_partial_and_has_ended_well(
    store: SqlSessions,
) -> None:
    await fill(store, "s", 1)
    scene = Scene(ScriptedGenerator(), store)
    async with scene.workflows.open("chat_generate", make_call("Hi", session=going_on())) as run:
        # Forgotten while it is answered.
        await store.delete(OWNER, "s")
        outcome = await run.complete()

    assert [one.step for one in outcome.failed] == ["keep"]
    assert scene.steps[-1].error_type == "SessionNotFoundError"
    assert (scene.end.status, scene.end.is_partial) == ("success", True)


async def test_a_call_that_is_not_let_in_states_its_end_too(store: SqlSessions) -> None:
    refusal = QueueFullError("full", retry_after_s=3)
    scene = Scene(ScriptedGenerator(refusal=refusal), store)

    with pytest.raises(QueueFullError):
        await answer(scene.workflows, make_call("Hi"))

    assert (scene.end.status, scene.end.error_type) == ("rejected", "QueueFullError")
    assert not scene.steps


async def test_a_run_that_is_left_states_the_step_that_was_cancelled(
    store: SqlSessions,
) -> None:
    generator = ScriptedGenerator([HOLD])
    scene = Scene(generator, store)

    async with scene.workflows.open("chat_generate", make_call("Hi")):
        async with asyncio.timeout(20):
            await generator.has_opened.wait()

    assert [(one.step, one.outcome) for one in scene.steps] == [
        ("window", "ended"),
        ("answer", "cancelled"),
    ]
    assert scene.end.status == "cancelled"


async def test_a_run_that_is_left_at_once_states_its_end_too(store: SqlSessions) -> None:
    scene = Scene(ScriptedGenerator([HOLD]), store)

    async with scene.workflows.open("chat_generate", make_call("Hi")):
        pass

    assert (scene.end.status, scene.steps) == ("cancelled", [])


async def test_who_leaves_while_waiting_for_its_session_states_an_end_and_waits_no_more(
    store: SqlSessions,
) -> None:
    await fill(store, "s", 1)
    generator = ScriptedGenerator([HOLD])
    scene = Scene(generator, store)
    call = make_call("Hi", session=going_on())

    async with scene.workflows.open("chat_generate", call):
        waiting = asyncio.create_task(answer(scene.workflows, call))
        async with asyncio.timeout(20):
            await generator.has_opened.wait()
            while len(generator.runs) < 2:  # noqa: ASYNC110 - it waits from then on
                await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

        assert waiting.cancelled()
        assert (scene.end.status, scene.end.error_type) == ("cancelled", "CancelledError")
    assert not scene.workflows._locks._by_session
