"""What has become of each choice of a request, and how one goes on with another worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import UnsupportedError
from mm_orch.core.generation import GenerationOptions
from mm_orch.orchestration.assembly import ChoiceAssembler
from mm_orch.orchestration.guiding import can_keep
from mm_orch.workers.messages import SequenceOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.generation import GenerationRequest, TextDelta, TokenChunk
    from mm_orch.optimization.engines.contract import EngineFacts
    from mm_orch.orchestration.preparation import PreparedRequest
    from mm_orch.workers.worker import Worker


class Choice:
    """One choice: the order that it began with, and every token that has come of it since."""

    def __init__(self, order: SequenceOrder, assembler: ChoiceAssembler) -> None:
        self.order = order
        self.token_ids: list[int] = []
        self.is_finished = False
        self._assembler = assembler

    def take(self, chunk: TokenChunk) -> TextDelta | None:
        """Keep the tokens; return the text that they make, where they make any yet."""
        self.token_ids.extend(chunk.token_ids)
        delta = self._assembler.push(chunk)
        self.is_finished = delta is not None and delta.finish_reason is not None
        return delta

    def order_of_rest(self, number: int, *, since_s: float) -> SequenceOrder:
        """Return the order for what is missing; a new id, for news of the old may still come.

        Args:
            number: how often the request was given to a worker before.
            since_s: when it was first given to one. Not when it came: those that the gate lets
                through would be ranked by that alone, and callers would take no turns.
        """
        first = self.order
        return SequenceOrder(
            sequence_id=f"{first.sequence_id}/{number}",
            token_ids=(*first.token_ids, *self.token_ids),
            params=first.params,
            num_prompt_tokens=len(first.token_ids),
            conversation_id=first.conversation_id,
            priority=first.priority,
            since_s=since_s,
        )


def find_obstacle(
    options: GenerationOptions, choices: Iterable[Choice], facts: EngineFacts
) -> str | None:
    """Say what of a request that has begun elsewhere an engine cannot take over; None for nothing.

    An engine that knows no state of another's sees prompt and delivered tokens as one prompt. What
    it draws from there on is a valid continuation, unless the request asked for more than that.
    """
    unfinished = [choice for choice in choices if not choice.is_finished]
    guides = [guide for choice in unfinished if (guide := choice.order.params.guide) is not None]
    if not all(can_keep(facts, guide) for guide in guides):
        return "a shape to keep to"
    if facts.resumes_exactly or not any(choice.token_ids for choice in unfinished):
        return None
    if guides:
        return "a shape to keep to"
    if options.presence_penalty or options.frequency_penalty or options.repetition_penalty != 1.0:
        return "penalties on what was generated"
    if options.seed is not None and options.temperature != 0.0:
        return "a seed"
    return None


def check_supported(options: GenerationOptions, worker: Worker) -> None:
    """Refuse what the worker's engine cannot do.

    Raises:
        UnsupportedError: names the field and the way out.
    """
    plain = GenerationOptions()
    for field in worker.facts.unsupported:
        value = getattr(options, field)
        if value != getattr(plain, field):
            raise UnsupportedError(
                f"{field} is {value!r}, which the engine {worker.engine} of {worker.model} cannot"
                " do.",
                param=field,
                remedy=f"Leave it out, or give the model another engine: models.{worker.model}"
                ".engines: [pytorch].",
            )
    most = worker.facts.max_logprobs
    if most is not None and (options.num_logprobs or 0) > most:
        raise UnsupportedError(
            f"num_logprobs is {options.num_logprobs}, but the engine {worker.engine} of"
            f" {worker.model} tells at most {most} alternatives beside the chosen token.",
            param="num_logprobs",
            remedy=f"Ask for at most {most}, or give the model another engine:"
            f" models.{worker.model}.engines: [pytorch].",
        )


def make_choices(
    number: int, prepared: PreparedRequest, request: GenerationRequest
) -> list[Choice]:
    """Make the choices of a request; ``number`` tells it from all others."""
    return [
        Choice(
            SequenceOrder(
                sequence_id=f"{number}/{index}",
                token_ids=prepared.token_ids,
                params=params,
                conversation_id=request.conversation_id,
                priority=request.priority,
            ),
            ChoiceAssembler(index, prepared.codec, request.options.stop, prepared.reading),
        )
        for index, params in enumerate(prepared.params)
    ]
