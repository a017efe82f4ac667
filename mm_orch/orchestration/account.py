"""What one request has cost and how it ended: keeps its times and states its events."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Literal

from mm_orch.core.errors import DeadlineError, OverloadError, RequestError
from mm_orch.core.events import (
    ErrorReport,
    FirstTokenProduced,
    RequestFinished,
    RequestStarted,
    RequestStatus,
    TokenGap,
)
from mm_orch.core.generation import ANONYMOUS, Usage
from mm_orch.core.placement_events import RequestFailedOver, RequestRedirected
from mm_orch.core.routing import Routing
from mm_orch.core.trace import CURRENT
from mm_orch.orchestration.attempts import Attempts
from mm_orch.orchestration.content import Content

if TYPE_CHECKING:
    from types import TracebackType

    from mm_orch.core.clock import Clock
    from mm_orch.core.errors import MuAIError
    from mm_orch.core.events import Observer
    from mm_orch.core.fallback import Failover, Fallback
    from mm_orch.core.generation import FinishReason, Prompt, SequenceStarted
    from mm_orch.core.routing import ModelChoice

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""Model and engine of a request that was refused before they were chosen."""


class RequestAccount:
    """A context manager around one request; on leaving it states exactly one RequestFinished.

    Args:
        request_id: as the answer echoes it.
        operation: chat, text_completion or embeddings.
        observer: told what becomes of it.
        clock: of its times.
        caller: name of the key that it belongs to.
        workflow: that it is a part of; empty for none.

    Attributes:
        choice: why this model, where the request left that open.
        content: what was asked and answered, where that is kept: in recorded traces alone.
        num_waiting_before: requests of the model that waited when it came.
        num_running_before: those that ran.
    """

    def __init__(
        self,
        request_id: str,
        *,
        operation: str,
        observer: Observer,
        clock: Clock,
        caller: str = ANONYMOUS,
        workflow: str = "",
    ) -> None:
        self.request_id = request_id
        self.caller = caller
        self._workflow = workflow
        self.content: Content | None = None
        self.num_waiting_before = 0
        self.num_running_before = 0
        self.model = UNKNOWN
        self.choice: ModelChoice | None = None
        self.engine = UNKNOWN
        self.num_prompt_tokens = 0
        self.num_generated_tokens = 0
        self.num_cached_tokens = 0
        self.num_reasoning_tokens = 0
        self.queue_wait_s: float | None = None
        self.ttft_s: float | None = None
        self._observer = observer
        self._clock = clock
        self._operation = operation
        self._trace = CURRENT.get()
        self._begin_s = clock()
        self._routed_s: float | None = None
        self._gate_wait_s = 0.0
        self._attempts = Attempts(clock)
        self._last_chunk_s: dict[str, float] = {}
        self._finish_reasons: list[FinishReason] = []
        self._is_complete = False
        self._error: BaseException | None = None

    def __enter__(self) -> RequestAccount:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        # What went wrong in the generation itself counts, whatever its reader made of it.
        cause = self._error or error
        content = self.content
        self._observer.observe(
            RequestFinished(
                request_id=self.request_id,
                model=self.model,
                engine=self.engine,
                status=status_of(
                    cause, is_complete=self._is_complete, has_run=self.queue_wait_s is not None
                ),
                total_s=self._clock() - self._begin_s,
                num_prompt_tokens=self.num_prompt_tokens,
                num_generated_tokens=self.num_generated_tokens,
                num_cached_tokens=self.num_cached_tokens,
                queue_wait_s=self.queue_wait_s,
                ttft_s=self.ttft_s,
                error_type=None if self._is_complete or cause is None else type(cause).__name__,
                finish_reasons=tuple(reason.value for reason in self._finish_reasons),
                operation=self._operation,
                error=None if self._is_complete or cause is None else self._describe(cause),
                begin_s=self._begin_s,
                routed_s=self._routed_s,
                gate_wait_s=self._gate_wait_s,
                attempts=self._attempts.close(),
                num_waiting_before=self.num_waiting_before,
                num_running_before=self.num_running_before,
                caller=self.caller,
                trace=self._trace,
                prompt=content.prompt if content else None,
                answers=content.answers if content else (),
                workflow=self._workflow,
                choice=self.choice,
            )
        )
        return False

    def keep_content(self, prompt: Prompt) -> None:
        """Keep what is asked and answered, if there is a trace to put it into."""
        if self._is_traced:
            self.content = Content(prompt)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            num_prompt_tokens=self.num_prompt_tokens,
            num_generated_tokens=self.num_generated_tokens,
            num_cached_tokens=self.num_cached_tokens,
            num_reasoning_tokens=self.num_reasoning_tokens,
        )

    @property
    def routing(self) -> Routing:
        """What was chosen for the request."""
        return Routing(model=self.choice)

    def route(self) -> None:
        """Note that the model is chosen and the prompt is ready for it."""
        self._routed_s = self._clock()

    def pass_gate(self) -> None:
        """Note that it is the request's turn."""
        if self._routed_s is not None:
            self._gate_wait_s = self._clock() - self._routed_s

    def submit(self, engine: str) -> float:
        """Note that the request is given to a worker of this engine; return when first to any."""
        self.engine = engine
        self._attempts.begin(engine)
        return self._attempts.first_submitted_s

    def lose(self, error: MuAIError) -> None:
        """Note that the worker that had the request has failed it, or would not take it."""
        self._attempts.lose(error.message.partition("\n")[0])

    def redirect(self, fallback: Fallback) -> None:
        """Note that an engine beside the model's own answers, because that one cannot."""
        logger.info(
            "request %s is answered by %s in place of %s: %s",
            self.request_id,
            fallback.engine,
            fallback.wanted,
            fallback.reason,
        )
        self._observer.observe(
            RequestRedirected(
                request_id=self.request_id,
                model=self.model,
                from_engine=fallback.wanted,
                to_engine=fallback.engine,
                reason=fallback.reason,
            )
        )

    def fail_over(self, note: Failover) -> None:
        """Note that the request goes on with another worker, or another server."""
        logger.warning(
            "request %s goes on with %s after %d tokens: %s",
            self.request_id,
            note.to_engine,
            note.num_delivered_tokens,
            note.reason,
        )
        self._observer.observe(
            RequestFailedOver(
                request_id=self.request_id,
                model=self.model,
                from_engine=note.from_engine,
                to_engine=note.to_engine,
                num_delivered_tokens=note.num_delivered_tokens,
                reason=note.reason,
            )
        )

    def start(self, started: SequenceStarted) -> None:
        """Note a sequence's first step; the first sequence's counts for the request."""
        attempt = self._attempts.open
        if attempt is None:
            # News of a worker that the request has left.
            return
        attempt.start(started.waited_s, started.num_cached_tokens)
        if self.queue_wait_s is None:
            self.queue_wait_s = attempt.submitted_s - self._begin_s + started.waited_s
            self.num_cached_tokens = started.num_cached_tokens
            self._observer.observe(
                RequestStarted(
                    request_id=self.request_id,
                    model=self.model,
                    engine=self.engine,
                    queue_wait_s=self.queue_wait_s,
                    trace=self._trace,
                )
            )

    def count_tokens(self, sequence_id: str, num_tokens: int, batch_size: int = 0) -> None:
        """Note tokens of one sequence that have just arrived, of a step with so many sequences."""
        now_s = self._clock()
        self.num_generated_tokens += num_tokens
        if self._attempts.open is not None:
            self._attempts.open.take_tokens(num_tokens, batch_size, now_s)
        if self.ttft_s is None:
            self.ttft_s = now_s - self._begin_s
            self._observer.observe(
                FirstTokenProduced(
                    request_id=self.request_id,
                    model=self.model,
                    engine=self.engine,
                    ttft_s=self.ttft_s,
                    trace=self._trace,
                )
            )
        elif sequence_id in self._last_chunk_s:
            self._observer.observe(
                TokenGap(
                    model=self.model,
                    engine=self.engine,
                    seconds_per_token=(now_s - self._last_chunk_s[sequence_id]) / num_tokens,
                    num_tokens=num_tokens,
                )
            )
        self._last_chunk_s[sequence_id] = now_s

    def tell_usage(self, usage: Usage) -> None:
        """Take the counts of a server that knows them better."""
        self.num_prompt_tokens = usage.num_prompt_tokens
        self.num_generated_tokens = usage.num_generated_tokens
        self.num_cached_tokens = usage.num_cached_tokens
        self.num_reasoning_tokens = usage.num_reasoning_tokens

    def finish_choice(self, reason: FinishReason) -> None:
        """Note the end of one choice."""
        self._finish_reasons.append(reason)

    def complete(self) -> None:
        """Note that every choice has ended well."""
        self._is_complete = True

    def fail(self, error: BaseException) -> None:
        """Note why the generation stopped short; the first reason counts."""
        self._error = self._error or error

    @property
    def _is_traced(self) -> bool:
        return self._trace is not None and self._trace.is_sampled

    def _describe(self, cause: BaseException) -> ErrorReport:
        # Nobody else reads it, and a full queue may refuse thousands a second.
        stack = "".join(traceback.format_exception(cause)) if self._is_traced else ""
        return ErrorReport(error_type=type(cause).__name__, message=str(cause), stack=stack)


def status_of(cause: BaseException | None, *, is_complete: bool, has_run: bool) -> RequestStatus:
    """Say how a request ended.

    Args:
        cause: what ended it, if that was an exception.
        is_complete: all that was asked for had been given.
        has_run: its work had begun.
    """
    # A reader that fails after the last token does not undo the answer.
    if is_complete:
        return RequestStatus.SUCCESS
    match cause:
        case None | asyncio.CancelledError() | GeneratorExit() | ConnectionError():
            # Nobody read to the end.
            return RequestStatus.CANCELLED
        case DeadlineError():
            return RequestStatus.TIMEOUT
        case OverloadError() if has_run:
            # The shutdown or an unload broke it off; it had been taken in.
            return RequestStatus.CANCELLED
        case RequestError() | OverloadError():
            return RequestStatus.REJECTED
        case _:
            return RequestStatus.ERROR
