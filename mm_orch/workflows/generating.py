"""Has models generate for one run of a workflow, and knows who answered and what it took."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.consciousness.gauge import Gauge
from mm_orch.core.errors import MuAIError
from mm_orch.core.generation import ChatPrompt, FinishReason, GenerationRequest, total_usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mm_orch.consciousness.confidence import Confidence
    from mm_orch.core.generation import GenerationOptions, Message, TextDelta, Usage
    from mm_orch.orchestration.generation import Generation, Generator
    from mm_orch.workflows.call import WorkflowCall

    Say = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedText:
    """What a model said, to its end.

    Attributes:
        reasoning: what it thought before; no part of the text.
        logprobs: natural logarithm of the probability of each token of the text, where the options
            ask for them, or confidence was asked for.
        confidence: how sure it is; None where that was not asked for, or the engine does not say.
    """

    text: str
    model: str
    engine: str
    finish_reason: FinishReason
    reasoning: str = ""
    logprobs: tuple[float, ...] = ()
    confidence: Confidence | None = None


class RunModels:
    """The models, as one run asks them: with its caller, priority and options.

    Args:
        generator: takes the requests.
        workflow: name of what runs.
        call: that the run answers.
        gauge: says how sure answers are; None for one without calibrations.

    Attributes:
        generations: all that were begun, in order.
    """

    def __init__(
        self,
        generator: Generator,
        workflow: str,
        call: WorkflowCall,
        gauge: Gauge | None = None,
    ) -> None:
        self.generations: list[Generation] = []
        self._failed: list[Generation] = []
        self.gauge = gauge or Gauge()
        self._workflow = workflow
        self._generator = generator
        self._call = call

    @property
    def usage(self) -> Usage:
        """Tokens of everything that was generated so far."""
        return total_usage(generation.usage for generation in self.generations)

    @property
    def last(self) -> Generation | None:
        """The last that has not failed, who answers; where all have, the last; None of none."""
        living = [one for one in self.generations if one not in self._failed]
        return next(reversed(living or self.generations), None)

    async def answer(
        self,
        messages: tuple[Message, ...],
        *,
        say: Say | None = None,
        think: Say | None = None,
        timeout_s: float | None,
        options: GenerationOptions | None = None,
        model: str | None = None,
        is_gauged: bool = False,
    ) -> GeneratedText:
        """Have a model answer a conversation; say each piece of text as it comes.

        Args:
            messages: of the conversation.
            say: takes the text; None leaves it to the returned value.
            think: takes what the model thinks before; None leaves that to the returned value.
            timeout_s: what is left of the step's time; None for the default.
            options: of this generation; None for the call's.
            model: that answers; None for the call's.
            is_gauged: say how sure the answer is, where the engine tells its log probabilities.

        Raises:
            RequestError, OverloadError, DeadlineError, EngineError: as every generation.
        """
        call = self._call
        request = GenerationRequest(
            request_id=call.request_id,
            prompt=ChatPrompt(messages),
            model=model or call.model,
            options=options or call.options,
            timeout_s=None if timeout_s is None else round_up_timeout(timeout_s),
            max_tokens_param=call.max_tokens_param,
            conversation_id=call.conversation_id,
            priority=call.priority,
            caller=call.caller,
            workflow=self._workflow,
            tells_logprobs=is_gauged,
        )
        async with self._open(request) as generation:
            said = await _listen(generation, say, think)
        told = said.logprobs
        return GeneratedText(
            text="".join(said.pieces),
            model=generation.model,
            engine=generation.engine,
            finish_reason=said.finish_reason,
            reasoning="".join(said.thoughts),
            logprobs=tuple(told),
            confidence=self.gauge.of_answer(generation.model, told) if is_gauged else None,
        )

    @asynccontextmanager
    async def _open(self, request: GenerationRequest) -> AsyncIterator[Generation]:
        async with self._generator.open(request) as generation:
            self.generations.append(generation)
            try:
                yield generation
            except MuAIError:
                self._failed.append(generation)
                raise


@dataclass(slots=True)
class _Said:
    """What a generation has said, piece by piece; log probabilities are of the text's tokens."""

    pieces: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason = FinishReason.STOP


async def _listen(generation: Generation, say: Say | None, think: Say | None) -> _Said:
    said = _Said()
    async for delta in generation:
        said.finish_reason = delta.finish_reason or said.finish_reason
        if delta.reasoning:
            said.thoughts.append(delta.reasoning)
            if think is not None:
                await think(delta.reasoning)
        said.logprobs += _logprobs_of_text(delta)
        if delta.text:
            said.pieces.append(delta.text)
            if say is not None:
                await say(delta.text)
    return said


def _logprobs_of_text(delta: TextDelta) -> list[float]:
    """Return those of the tokens that are no thoughts, which come first."""
    told = delta.logprobs or ()
    return [one.logprob for one in told[delta.num_reasoning_tokens :]]


def round_up_timeout(timeout_s: float) -> float:
    """Return hundredths that are no less: whoever bounds the step is the one to end it.

    What is left after the steps before is no round number, and people may be told of it; none at
    all would mean the default.
    """
    return max(1, math.ceil(100 * timeout_s)) / 100
