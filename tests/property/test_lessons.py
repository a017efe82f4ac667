"""Whatever a model writes, a lesson is whole or there is none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.lesson_judge import judge
from mm_orch.core.errors import WorkflowError
from mm_orch.core.generation import FinishReason, GenerationOptions, Message
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from tests.unit.api.scripted_generator import say
from tests.unit.workflows.lesson_model import Kind, LessonModel, kind_of, write_well
from tests.unit.workflows.scene import make_workflows

if TYPE_CHECKING:
    from mm_orch.core.generation import GenerationRequest

# Few words, so that what is written often repeats something, copies something or says nothing.
WORDS = st.sampled_from(
    [
        *("What", "is", "a", "root", "root?", "...", "", "  ", "Plants", "need", "water."),
        *("Answer", "\ud800"),
    ]
)
TEXTS = st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=40)
JUNK = st.sampled_from(
    [
        "",
        "{}",
        r'{"text": "\ud800"}',
        "[]",
        "null",
        '{"text": 3}',
        '{"question": "Wha',
        "\x00",
        "12",
    ]
)


@st.composite
def pieces(draw: st.DrawFn, kind: Kind) -> str:
    """Draw what a model writes: a right piece, one of other texts, or nothing that can be read."""
    match draw(st.integers(0, 3)):
        case 0:
            return write_well(kind, draw(st.integers(0, 4)))
        case 1:
            return draw(JUNK)
        case _:
            three = st.lists(TEXTS, min_size=3, max_size=3)
            fields: dict[Kind, dict[str, st.SearchStrategy[Any]]] = {
                "plan": {"title": TEXTS, "objectives": three, "headings": three},
                "section": {"text": TEXTS},
                "exercise": {"question": TEXTS, "answer": TEXTS},
            }
            return json.dumps(draw(st.fixed_dictionaries(fields[kind])))


class DrawnModel(LessonModel):
    """Writes what is drawn, and is cut off where that is drawn."""

    def __init__(self, data: st.DataObject) -> None:
        super().__init__()
        self._data = data

    def _script_for(self, request: GenerationRequest) -> Any:
        text = self._data.draw(pieces(kind_of(request)))
        is_cut = self._data.draw(st.integers(0, 9)) == 0
        return say(text, reason=FinishReason.LENGTH if is_cut else FinishReason.STOP)


@given(
    st.data(),
    st.sampled_from(
        ["Roots, with 3 questions.", "What is a root? 20 questions", "??", "植物根", "讲植物三道题"]
    ),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_model_writes_a_lesson_is_whole_or_there_is_none(
    data: st.DataObject, query: str
) -> None:
    model = DrawnModel(data)
    workflows = make_workflows(model, SqlSessions(SqliteDatabase(Path("none"))))
    call = WorkflowCall(
        request_id="r",
        messages=(Message(role="user", content=query),),
        options=GenerationOptions(seed=1),
    )

    async def teach() -> str | None:
        async with workflows.open("lesson_pack", call) as run:
            try:
                return (await run.complete()).values[ANSWER].text
            except WorkflowError:
                return None

    text = asyncio.run(teach())

    assert model.num_open == 0
    if text is not None:
        assert judge(text) == {}
