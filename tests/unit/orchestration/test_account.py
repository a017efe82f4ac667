from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import (
    DeadlineError,
    DrainingError,
    EngineCrashedError,
    ModelNotFoundError,
    QueueFullError,
)
from mm_orch.core.events import (
    Attempt,
    ErrorReport,
    FirstTokenProduced,
    RequestFinished,
    RequestStarted,
    RequestStatus,
    TokenGap,
)
from mm_orch.core.generation import (
    ChatPrompt,
    FinishReason,
    Message,
    SequenceStarted,
    TextDelta,
    TextPrompt,
)
from mm_orch.core.trace import CURRENT, TraceContext
from mm_orch.orchestration.account import RequestAccount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.core.events import Event


class Recorder:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now_s = 0.0

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def clock(self) -> float:
        return self.now_s

    def account(self) -> RequestAccount:
        return RequestAccount("r1", operation="chat", observer=self, clock=self.clock)

    @property
    def finished(self) -> RequestFinished:
        [event] = [event for event in self.events if isinstance(event, RequestFinished)]
        return event


@contextmanager
def in_trace(trace: TraceContext) -> Iterator[None]:
    token = CURRENT.set(trace)
    try:
        yield
    finally:
        CURRENT.reset(token)


def test_a_whole_answer_is_told_with_its_times() -> None:
    recorder = Recorder()
    with recorder.account() as account:
        account.model = "m"
        account.num_prompt_tokens = 7
        recorder.now_s = 1.0
        account.submit("echo")
        recorder.now_s = 4.0
        account.start(SequenceStarted(sequence_id="a", waited_s=2.0, num_cached_tokens=3))
        account.start(SequenceStarted(sequence_id="b", waited_s=9.0))
        account.count_tokens("a", 1)
        recorder.now_s = 5.0
        account.count_tokens("a", 2, 8)
        account.finish_choice(FinishReason.STOP)
        account.complete()

    started, first, gap, finished = recorder.events
    assert started == RequestStarted(request_id="r1", model="m", engine="echo", queue_wait_s=3.0)
    assert first == FirstTokenProduced(request_id="r1", model="m", engine="echo", ttft_s=4.0)
    assert gap == TokenGap(model="m", engine="echo", seconds_per_token=0.5, num_tokens=2)
    assert finished == RequestFinished(
        caller="anonymous",
        request_id="r1",
        model="m",
        engine="echo",
        status=RequestStatus.SUCCESS,
        total_s=5.0,
        num_prompt_tokens=7,
        num_generated_tokens=3,
        num_cached_tokens=3,
        queue_wait_s=3.0,
        ttft_s=4.0,
        finish_reasons=("stop",),
        attempts=(
            Attempt(
                engine="echo",
                submitted_s=1.0,
                started_s=3.0,
                first_token_s=4.0,
                ended_s=5.0,
                num_tokens=3,
                num_cached_tokens=3,
                max_batch_size=8,
            ),
        ),
    )


def test_a_request_that_two_workers_answered_tells_of_both() -> None:
    recorder = Recorder()
    with recorder.account() as account:
        account.route()
        account.submit("first")
        account.start(SequenceStarted(sequence_id="a", waited_s=0.5))
        recorder.now_s = 1.0
        account.count_tokens("a", 4)
        recorder.now_s = 2.0
        account.lose(EngineCrashedError("It ended.\nWith a log."))
        recorder.now_s = 3.0
        account.submit("second")
        recorder.now_s = 4.0
        account.start(SequenceStarted(sequence_id="a/1", waited_s=0.25))
        account.count_tokens("a/1", 1)

    first, second = recorder.finished.attempts
    assert (first.engine, first.error, first.num_tokens, first.ended_s) == (
        "first",
        "It ended.",
        4,
        2.0,
    )
    assert (second.engine, second.error, second.submitted_s, second.started_s) == (
        "second",
        "",
        3.0,
        3.25,
    )
    assert recorder.finished.routed_s == 0.0
    assert recorder.finished.queue_wait_s == 0.5


def test_a_request_keeps_the_trace_in_which_it_began() -> None:
    recorder = Recorder()
    trace = TraceContext(1, 2, is_sampled=True)
    with in_trace(trace):
        account = recorder.account()

    with account:
        account.fail(EngineCrashedError("gone"))

    assert recorder.finished.trace == trace
    assert recorder.finished.error is not None
    assert recorder.finished.error.message == "gone"
    assert "EngineCrashedError: gone" in recorder.finished.error.stack


def test_an_error_outside_a_trace_costs_no_stack() -> None:
    recorder = Recorder()

    with recorder.account() as account:
        account.fail(EngineCrashedError("gone"))

    assert recorder.finished.error == ErrorReport(
        error_type="EngineCrashedError", message="gone", stack=""
    )


def test_without_a_recorded_trace_no_text_is_kept() -> None:
    recorder = Recorder()
    with in_trace(TraceContext(1, 2, is_sampled=False)), recorder.account() as account:
        account.keep_content(TextPrompt("Hi"))

    assert account.content is None
    assert recorder.finished.prompt is None


def test_what_was_asked_and_answered_is_told_where_it_is_kept() -> None:
    recorder = Recorder()
    with in_trace(TraceContext(1, 2, is_sampled=True)), recorder.account() as account:
        account.keep_content(ChatPrompt((Message(role="user", content="Hi"),)))
        assert account.content is not None
        account.content.take(TextDelta(index=1, text="b", num_tokens=1))
        account.content.take(TextDelta(index=0, text="a", num_tokens=1, reasoning="so "))
        account.content.take(TextDelta(index=1, text="c", num_tokens=1))

    assert '"content":"Hi"' in (recorder.finished.prompt or "")
    assert recorder.finished.answers == ("so a", "bc")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelNotFoundError("x"), RequestStatus.REJECTED),
        (QueueFullError("x", retry_after_s=1), RequestStatus.REJECTED),
        (DeadlineError("x"), RequestStatus.TIMEOUT),
        (EngineCrashedError("x"), RequestStatus.ERROR),
        (ZeroDivisionError("a bug"), RequestStatus.ERROR),
        (asyncio.CancelledError(), RequestStatus.CANCELLED),
        (BrokenPipeError(), RequestStatus.CANCELLED),
    ],
)
def test_what_ends_a_request_gives_its_status(error: BaseException, status: RequestStatus) -> None:
    recorder = Recorder()

    with pytest.raises(type(error)), recorder.account():
        raise error

    assert recorder.finished.status is status
    assert recorder.finished.error_type == type(error).__name__


def test_an_answer_that_the_shutdown_breaks_off_was_not_rejected() -> None:
    recorder = Recorder()

    with recorder.account() as account:
        account.submit("echo")
        account.start(SequenceStarted(sequence_id="a", waited_s=1.0))
        account.fail(DrainingError("x", retry_after_s=1))

    assert recorder.finished.status is RequestStatus.CANCELLED


def test_leaving_before_the_end_is_a_cancelled_request() -> None:
    recorder = Recorder()

    with recorder.account():
        pass

    assert recorder.finished.status is RequestStatus.CANCELLED
    assert recorder.finished.error_type is None


def test_an_error_that_the_reader_was_told_and_caught_still_counts() -> None:
    recorder = Recorder()

    with recorder.account() as account:
        account.fail(EngineCrashedError("gone"))

    assert recorder.finished.status is RequestStatus.ERROR


def test_a_reader_that_fails_after_the_last_token_does_not_undo_the_answer() -> None:
    recorder = Recorder()

    account = recorder.account()
    account.complete()

    with pytest.raises(BrokenPipeError), account:
        raise BrokenPipeError

    assert recorder.finished.status is RequestStatus.SUCCESS
    assert recorder.finished.error_type is None
