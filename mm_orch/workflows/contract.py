"""What a workflow is to those who write one: its graph, and the slots that every graph knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import GraphError
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.cascade_settings import CascadeSettings
from mm_orch.workflows.doubt import DoubtSettings
from mm_orch.workflows.generating import GeneratedText, RunModels
from mm_orch.workflows.graph_state import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mm_orch.core.generation import Message
    from mm_orch.orchestration.generation import Meters
    from mm_orch.search.service import Search
    from mm_orch.storage.documents import DocumentStore
    from mm_orch.storage.sessions import Appended, SessionStore
    from mm_orch.workflows.advice import Advisor
    from mm_orch.workflows.embedding import RunEmbedder
    from mm_orch.workflows.graph import Graph

ENTRY_POINT_GROUP = "mm_orch.workflows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the steps of one run may use.

    Attributes:
        models: generate.
        meters: count tokens.
        sessions: keep conversations.
        search: finds pages and reads them.
        documents: keep texts, and search them.
        embedder: makes vectors.
        window_tokens: most tokens of a conversation that a model is shown; None for as many as its
            context allows.
        tells_confidence: answers say how sure they are.
        cascade: of the workflow of this name.
        doubt: what answers from pages do that are not sure.
        advisor: knows the system itself; None where nobody does.
    """

    models: RunModels
    meters: Meters
    sessions: SessionStore
    search: Search
    documents: DocumentStore
    embedder: RunEmbedder
    window_tokens: int | None = None
    tells_confidence: bool = True
    cascade: CascadeSettings = field(default_factory=CascadeSettings)
    doubt: DoubtSettings = field(default_factory=DoubtSettings)
    advisor: Advisor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What there is for a call, by which a workflow says whether it can answer it now.

    Attributes:
        call: what is asked.
        services: what its steps could use.
        has_documents: the owner has documents that can be searched.
    """

    call: WorkflowCall
    services: Services
    has_documents: bool


def _find_none(_: Circumstances) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Kept:
    """What has become of the turn; ``turn`` is None where nothing is kept."""

    turn: Appended | None


@dataclass(frozen=True, slots=True)
class Source:
    """A text that an answer goes by.

    Attributes:
        content: the text, or the part of it that counts.
        score: how well it fits the question; greater is better.
        metadata: where it is from, in words that JSON has.
    """

    content: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


CALL = Slot("call", WorkflowCall)
"""What is asked; filled before the first step, as are the next two."""
HISTORY: Slot[tuple[Message, ...]] = Slot("history", tuple)
"""Earlier turns of the stored session, the oldest first."""
SERVICES = Slot("services", Services)
ANSWER = Slot("answer", GeneratedText)
"""The final answer of every workflow."""
KEPT = Slot("kept", Kept)
"""The turn as it is stored, where the call belongs to a session."""
SOURCES: Slot[tuple[Source, ...]] = Slot("sources", tuple)
"""What the answer goes by, best first; written by workflows that know it."""
CONFIDENCE = Slot("confidence", float)
"""How sure the answer is, from 0 to 1; written by workflows that measure it."""

INPUTS = (CALL, HISTORY, SERVICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow as its module offers it, and an entry point of ``mm_orch.workflows`` names it.

    Attributes:
        summary: what it does, for people, in a sentence.
        graph: its inputs are among :data:`INPUTS`, its answer is :data:`ANSWER`.
        follows_mood: where its caller does not say how to answer, the system's mood may.
        find_obstacle: says why it cannot answer a call now, as a sentence without its end, or None;
            asked before it is chosen for a call that names no workflow. Returns at once.

    Raises:
        GraphError: it reads or answers something else.
    """

    summary: str
    graph: Graph
    follows_mood: bool = False
    find_obstacle: Callable[[Circumstances], str | None] = _find_none

    def __post_init__(self) -> None:
        known = ", ".join(slot.name for slot in INPUTS)
        faults = [
            f"its input {slot} is not known; known: {known}"
            for slot in self.graph.inputs
            if slot not in INPUTS
        ]
        if self.graph.answer != ANSWER:
            faults.append(f"its answer is {self.graph.answer}; it must be {ANSWER}")
        if faults:
            raise GraphError(self.graph.name, faults)

    @property
    def name(self) -> str:
        """How it is asked for."""
        return self.graph.name
