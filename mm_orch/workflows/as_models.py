"""Lets a workflow be asked for where a model is named: ``workflow/NAME``, or with ``/MODEL``.

Both may be ``auto``, which has one chosen.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError, UnsupportedError
from mm_orch.core.generation import ChatPrompt, TextDelta
from mm_orch.workflows.call import WORKFLOW_PREFIX, WorkflowCall
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.graph_progress import AnswerPiece, ThoughtPiece

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from mm_orch.core.effects import Effect
    from mm_orch.core.fallback import Failover, Fallback
    from mm_orch.core.generation import GenerationRequest, Usage
    from mm_orch.core.routing import Routing
    from mm_orch.orchestration.generation import Generation, Generator
    from mm_orch.workflows.graph_progress import FailedStep
    from mm_orch.workflows.run import WorkflowRun
    from mm_orch.workflows.running import Workflows


class ModelsAndWorkflows:
    """Takes requests for either; implements orchestration.generation.Generator.

    What a conversation says is all that a workflow gets: nothing is stored.
    """

    def __init__(self, models: Generator, workflows: Workflows) -> None:
        self._models = models
        self._workflows = workflows

    def open(self, request: GenerationRequest) -> AbstractAsyncContextManager[Generation]:
        """Start a request; see Generator.

        Raises:
            WorkflowNotFoundError: names the workflows there are.
            UnsupportedError, InvalidValueError: workflows do not do what the request asks.
        """
        if (request.model or "").startswith(WORKFLOW_PREFIX):
            return self._open_workflow(request)
        return self._models.open(request)

    def release_conversation(self, conversation_id: str) -> None:
        """Free the KV blocks that only this conversation needs."""
        self._models.release_conversation(conversation_id)

    @asynccontextmanager
    async def _open_workflow(self, request: GenerationRequest) -> AsyncIterator[Generation]:
        name, _, model = (request.model or "").removeprefix(WORKFLOW_PREFIX).partition("/")
        call = _as_call(request, model or None)
        async with self._workflows.open(name, call, param="model") as run:
            yield WorkflowGeneration(run, request)


class WorkflowGeneration:
    """A run as if one model answered; implements orchestration.generation.Generation.

    Attributes:
        failed: what the answer is without, known with its last delta.
    """

    def __init__(self, run: WorkflowRun, request: GenerationRequest) -> None:
        self.request_id = request.request_id
        self._run = run
        self._asked_model = request.model or ""
        self.failed: tuple[FailedStep, ...] = ()

    @property
    def model(self) -> str:
        """The model that answers; before one does, the workflow as it was asked for."""
        last = self._last
        return self._asked_model if last is None else last.model

    @property
    def engine(self) -> str:
        """The engine that answers now; empty before one does."""
        last = self._last
        return "" if last is None else last.engine

    @property
    def failovers(self) -> Sequence[Failover]:
        """Of everything that was generated."""
        return [one for generation in self._run.models.generations for one in generation.failovers]

    @property
    def fallback(self) -> Fallback | None:
        """Of the model that answers."""
        last = self._last
        return None if last is None else last.fallback

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What the state of the system has set, of what the request left open."""
        return self._run.effects

    @property
    def routing(self) -> Routing:
        """What was chosen for the call."""
        return self._run.routing

    @property
    def usage(self) -> Usage:
        """Tokens of everything that was generated."""
        return self._run.models.usage

    async def __aiter__(self) -> AsyncIterator[TextDelta]:
        has_spoken = has_thought = False
        async for event in self._run:
            match event:
                case AnswerPiece():
                    has_spoken = True
                    yield TextDelta(index=0, text=event.text, num_tokens=0)
                case ThoughtPiece():
                    has_thought = True
                    yield TextDelta(index=0, text="", num_tokens=0, reasoning=event.text)
                case _:
                    pass
        outcome = self._run.outcome
        self.failed = outcome.failed
        answer = outcome.values[ANSWER]
        yield TextDelta(
            index=0,
            # A workflow may give its answer whole.
            text="" if has_spoken else answer.text,
            num_tokens=0,
            reasoning="" if has_spoken or has_thought else answer.reasoning,
            finish_reason=answer.finish_reason,
        )

    @property
    def _last(self) -> Generation | None:
        return self._run.models.last


def _as_call(request: GenerationRequest, model: str | None) -> WorkflowCall:
    prompt, options = request.prompt, request.options
    if not isinstance(prompt, ChatPrompt):
        raise UnsupportedError(
            f"{request.model} takes conversations alone.",
            param="model",
            remedy="Use /v1/chat/completions.",
        )
    unbuilt = {
        "tools": prompt.tool_use is not None,
        request.guide_param: options.guide is not None,
        "n": options.num_choices != 1,
        "logprobs": options.num_logprobs is not None,
    }
    for param, is_asked in unbuilt.items():
        if is_asked:
            raise UnsupportedError(
                f"{param} is set, which workflows do not take.",
                param=param,
                remedy="Leave it out, or ask a model.",
            )
    if prompt.messages[-1].role != "user":
        raise InvalidValueError(
            f"The last message is the {prompt.messages[-1].role}'s; a workflow answers the user's.",
            param="messages",
        )
    return WorkflowCall(
        request_id=request.request_id,
        messages=prompt.messages,
        model=model,
        options=options,
        timeout_s=request.timeout_s,
        priority=request.priority,
        caller=request.caller,
        owner=request.owner,
        conversation_id=request.conversation_id,
        max_tokens_param=request.max_tokens_param,
    )
