"""What a routing decision is: a workflow, how sure it is, what else was possible, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Workflow = Literal["lesson_pack", "rag_qa", "self_ask_search_qa", "search_qa", "chat_generate"]
# In the order in which rules ask: the first that fits is the answer.
WORKFLOWS: tuple[Workflow, ...] = get_args(Workflow)
DEFAULT_WORKFLOW: Workflow = "chat_generate"
DecidedBy = Literal["learned", "rules", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteContext:
    """What there is beside the query.

    Attributes:
        has_documents: the user has uploaded documents that can be searched.
        has_session: there are earlier turns of the conversation.
    """

    has_documents: bool = False
    has_session: bool = False


@dataclass(frozen=True, slots=True)
class Alternative:
    """A workflow that could be chosen.

    Attributes:
        score: its share of belief, 0 to 1, as past outcomes changed it.
        belief: its share by the query alone.
    """

    workflow: Workflow
    score: float
    belief: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A decision.

    Attributes:
        workflow: what answers the query.
        confidence: how likely that is right, 0 to 1.
        alternatives: all available workflows, the chosen one first, the others by falling score;
            the scores sum to 1.
        reason: why, in words.
        by: who decided.
    """

    workflow: Workflow
    confidence: float
    alternatives: tuple[Alternative, ...]
    reason: str
    by: DecidedBy
