"""What becomes of a turn whose time is over while it is written."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from mm_orch.api.workflow_answer import write_message
from mm_orch.core.errors import DeadlineError
from mm_orch.core.generation import FinishReason
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from mm_orch.workflows.contract import ANSWER, CALL, KEPT, SERVICES, Services
from mm_orch.workflows.embedding import RunEmbedder
from mm_orch.workflows.generating import GeneratedText, RunModels
from mm_orch.workflows.graph_state import StepContext, Values
from mm_orch.workflows.keeping import KEEP, keep_turn
from tests.unit.api.scripted_embedder import ScriptedEmbedder
from tests.unit.api.scripted_generator import ScriptedGenerator, say
from tests.unit.storage.scene import OWNER, fill, open_store, texts_of
from tests.unit.workflows.scene import WordMeters, make_workflows, no_documents
from tests.unit.workflows.test_chat_generate import going_on, make_call

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.storage.sql_sessions import SqlSessions


def context_of(store: SqlSessions) -> StepContext:
    call = make_call("Hi", session=going_on())
    values = Values()
    values.put(CALL, call)
    values.put(
        SERVICES,
        Services(
            models=RunModels(ScriptedGenerator(), "any", call),
            meters=WordMeters(),
            sessions=store,
            search=Search(SearchSettings()),
            documents=no_documents(),
            embedder=RunEmbedder(ScriptedEmbedder(), call),
        ),
    )
    values.put(
        ANSWER, GeneratedText(text="Yes.", model="", engine="", finish_reason=FinishReason.STOP)
    )
    return StepContext(
        KEEP.name,
        readable=frozenset(slot.name for slot in KEEP.reads),
        writable=frozenset(slot.name for slot in KEEP.outputs),
        values=values,
        tell=None,
        remaining_s=lambda: None,
    )


async def test_a_write_that_has_begun_is_waited_for_and_told_of(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        context = context_of(store)
        is_free = threading.Event()
        busy = asyncio.create_task(store._database.write(lambda _: is_free.wait()))
        keeping = asyncio.create_task(keep_turn(context))
        async with asyncio.timeout(20):
            while store._database._writes._num_waiting < 2:  # noqa: ASYNC110 - it has begun then
                await asyncio.sleep(0)

        keeping.cancel()
        asyncio.get_running_loop().call_soon(is_free.set)
        await asyncio.gather(busy, keeping)

        assert texts_of(await store.read(OWNER, "s"))[-1] == ("Hi", "Yes.")
        turn = context.written[KEPT].turn
        assert turn is not None
        assert turn.num_turns == 2


async def test_a_turn_that_a_slow_reader_kept_from_being_stored_is_told_as_lost(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        await fill(store, "s", 1)
        # With what is told of steps, as much as is told ahead: the answer's end has to wait.
        workflows = make_workflows(ScriptedGenerator(say(*["w"] * 13)), store)
        call = make_call("Hi", session=going_on(), timeout_s=0.05)
        async with workflows.open("chat_generate", call) as run:
            await asyncio.wait([run._task])
            outcome = await run.complete()

            assert outcome.is_partial
            assert [one.step for one in outcome.failed] == ["keep"]
            with pytest.raises(DeadlineError, match=r"not complete after 0\.05 s"):
                write_message(run)
        assert len((await store.read(OWNER, "s")).turns) == 1
