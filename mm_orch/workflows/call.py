"""What a caller asks of a workflow, whichever face it came through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.core.generation import ANONYMOUS, GenerationOptions

if TYPE_CHECKING:
    from mm_orch.core.effects import Effect
    from mm_orch.core.generation import Message

WORKFLOW_PREFIX = "workflow/"
"""Begins the name of a workflow where the name of a model is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCall:
    """The stored conversation that a call belongs to.

    Attributes:
        session_id: which.
        is_new: it begins with this call.
    """

    session_id: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageOptions:
    """Which passages of stored documents an answer may go by.

    Attributes:
        top_k: at most so many.
        threshold: least confidence, 0 to 1, with which there is an answer; None for the measured
            one.
    """

    top_k: int = 5
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCall:
    """One call.

    Attributes:
        messages: what is asked, the question last; instructions and earlier turns before it.
        model: name or alias of the model that answers; None for the default one.
        options: of the answer.
        timeout_s: seconds for all; None for the configured ones.
        priority: of everything that models are asked; see core.priority.
        caller: name of the key, for counting.
        owner: whose sessions and documents; empty for those of callers without a key.
        session: that the call goes on with; None keeps nothing.
        conversation_id: names what is left in the KV cache; empty for none.
        max_tokens_param: how the caller spells ``max_tokens``.
        passages: for workflows that answer from documents.
        effects: what the system has changed of what the caller asked.
    """

    request_id: str
    messages: tuple[Message, ...]
    model: str | None = None
    options: GenerationOptions = field(default_factory=GenerationOptions)
    timeout_s: float | None = None
    priority: int = 0
    caller: str = ANONYMOUS
    owner: str = ""
    session: SessionCall | None = None
    conversation_id: str = ""
    max_tokens_param: str = "max_tokens"
    passages: PassageOptions = field(default_factory=PassageOptions)
    effects: tuple[Effect, ...] = ()

    @property
    def instructions(self) -> tuple[str, ...]:
        """What the caller wants of every answer: the system messages before the question."""
        return tuple(one.content for one in self.messages[:-1] if one.role == "system")

    @property
    def question(self) -> str:
        """What the last message says."""
        return self.messages[-1].content
