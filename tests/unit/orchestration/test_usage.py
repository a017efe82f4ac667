from __future__ import annotations

from mm_orch.core.events import LoadChanged, RequestFinished, RequestStatus
from mm_orch.core.observations import CallerUsage
from mm_orch.orchestration.usage import UsageBook


def ended(caller: str, status: RequestStatus, *, num_tokens: int = 0) -> RequestFinished:
    return RequestFinished(
        request_id="r",
        model="m",
        engine="echo",
        status=status,
        total_s=1.0,
        caller=caller,
        num_prompt_tokens=3 * num_tokens,
        num_cached_tokens=2 * num_tokens,
        num_generated_tokens=num_tokens,
    )


async def test_each_caller_has_its_own_counts_and_what_is_no_end_of_a_request_counts_nowhere() -> (
    None
):
    book = UsageBook(now=lambda: 1_700_000_000.0)
    for event in (
        ended("b", RequestStatus.SUCCESS, num_tokens=5),
        ended("a", RequestStatus.SUCCESS, num_tokens=1),
        ended("b", RequestStatus.CANCELLED, num_tokens=2),
        ended("b", RequestStatus.REJECTED),
        LoadChanged(model="m", num_running=1, num_waiting=0),
    ):
        book.observe(event)

    report = await book.report()

    assert report.since == "2023-11-14T22:13:20.000+00:00"
    assert report.callers == (
        CallerUsage(
            name="a",
            num_requests=1,
            num_refused=0,
            num_prompt_tokens=3,
            num_cached_tokens=2,
            num_generated_tokens=1,
        ),
        CallerUsage(
            name="b",
            num_requests=3,
            num_refused=1,
            num_prompt_tokens=21,
            num_cached_tokens=14,
            num_generated_tokens=7,
        ),
    )
