"""A model that writes pieces of lessons as a test tells it to, whichever it is asked for."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mm_orch.core.generation import ChatPrompt, FinishReason
from mm_orch.core.guide import JsonSchemaShape
from tests.unit.api.scripted_generator import HOLD, ScriptedGenerator, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.core.generation import GenerationRequest
    from tests.unit.api.scripted_generator import Step

Kind = Literal["plan", "section", "exercise"]

PLAN = {
    "title": "Plants and light",
    "objectives": ["Name what plants need.", "Say where sugar is made.", "Explain what air gives."],
    "headings": ["What plants need", "Where it happens", "Why it matters"],
}
TEXTS = (
    "Plants need sunlight, water and carbon dioxide. Roots take up water from the soil every day.",
    "Chlorophyll in green leaves catches light. The sugar is stored in stems and in heavy roots.",
    "Animals breathe the oxygen that forests give back. Without meadows there would be no bread.",
)
QUESTIONS = (
    "What do plants need to grow well?",
    "Where does the green leaf catch light?",
    "Why do animals breathe better near forests?",
    "How is sugar stored underground in winter?",
    "Which gas leaves the stem at night?",
)


def kind_of(request: GenerationRequest) -> Kind:
    guide = request.options.guide
    assert isinstance(guide, JsonSchemaShape)
    fields = json.loads(guide.schema)["properties"]
    return "plan" if "title" in fields else "section" if "text" in fields else "exercise"


def write_well(kind: Kind, number: int) -> str:
    """Return a piece that can be used; ``number`` counts those of its kind."""
    match kind:
        case "plan":
            return json.dumps(PLAN)
        case "section":
            return json.dumps({"text": TEXTS[number % len(TEXTS)]})
        case "exercise":
            question = QUESTIONS[number % len(QUESTIONS)]
            return json.dumps({"question": question, "answer": f"Answer number {number}."})


@dataclass
class LessonModel(ScriptedGenerator):
    """Writes each piece with ``write``: text, an error to raise, or None to never end.

    Attributes:
        reasons: how an answer of a kind ends, where it is not by itself.
        asked: how often each kind was asked for.
    """

    write: Callable[[Kind, int], str | Exception | None] = write_well
    reasons: dict[Kind, FinishReason] = field(default_factory=dict)
    asked: Counter[Kind] = field(default_factory=Counter)

    def _script_for(self, request: GenerationRequest) -> Sequence[Step]:
        kind = kind_of(request)
        number, self.asked[kind] = self.asked[kind], self.asked[kind] + 1
        match self.write(kind, number):
            case None:
                return [HOLD]
            case Exception() as error:
                return [error]
            case str(text):
                return say(text, reason=self.reasons.get(kind, FinishReason.STOP))

    def requests_for(self, kind: Kind) -> list[GenerationRequest]:
        return [request for request in self.requests if kind_of(request) == kind]

    def prompts_for(self, kind: Kind) -> list[str]:
        texts = []
        for request in self.requests_for(kind):
            assert isinstance(request.prompt, ChatPrompt)
            texts.append(request.prompt.messages[-1].content)
        return texts
