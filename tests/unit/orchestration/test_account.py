from __future__ import annotations

import asyncio
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
    FirstTokenProduced,
    RequestFinished,
    RequestStarted,
    RequestStatus,
    TokenGap,
)
from mm_orch.core.generation import FinishReason, SequenceStarted
from mm_orch.orchestration.account import RequestAccount

if TYPE_CHECKING:
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
        return RequestAccount("r1", observer=self, clock=self.clock)

    @property
    def finished(self) -> RequestFinished:
        [event] = [event for event in self.events if isinstance(event, RequestFinished)]
        return event


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
        account.count_tokens("a", 2)
        account.finish_choice(FinishReason.STOP)
        account.complete()

    started, first, gap, finished = recorder.events
    assert started == RequestStarted(request_id="r1", model="m", engine="echo", queue_wait_s=3.0)
    assert first == FirstTokenProduced(request_id="r1", model="m", engine="echo", ttft_s=4.0)
    assert gap == TokenGap(model="m", engine="echo", seconds_per_token=0.5, num_tokens=2)
    assert finished == RequestFinished(
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
    )


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
