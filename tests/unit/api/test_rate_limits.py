from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.api.rate_limits import RateLimits
from mm_orch.api.settings import ApiKey, ApiSettings
from mm_orch.core.events import RequestFinished, RequestStatus
from tests.unit.api.face import CHAT, SHORTEST, TEXT, VECTORS, Face


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_minutes_requests_may_come_at_once_then_they_come_back_evenly() -> None:
    clock = Clock()
    limits = RateLimits(60, {}, clock)

    taken = [limits.take("a") for _ in range(61)]

    assert [one.remaining for one in taken if one] == [*range(59, -1, -1), 0]
    assert taken[59] is not None
    assert (taken[59].retry_after_s, taken[59].reset_s) == (None, 60.0)
    assert taken[60] is not None
    assert taken[60].retry_after_s == pytest.approx(1.0)
    clock.now_s = 1.01
    again = limits.take("a")
    assert again is not None
    assert again.retry_after_s is None


def test_a_caller_has_its_own_limit_or_that_of_all_or_none() -> None:
    limits = RateLimits(None, {"bounded": 1}, Clock())
    assert limits.take("free") is None

    both = RateLimits(2, {"bounded": 1}, Clock())
    refused = {
        name: [allowance.retry_after_s is not None for _ in range(3) if (allowance := take(name))]
        for name, take in (("bounded", both.take), ("other", both.take), ("third", both.take))
    }

    assert refused == {
        "bounded": [False, True, True],
        "other": [False, False, True],
        "third": [False, False, True],
    }
    assert limits.take("bounded") is not None


@given(st.integers(1, 100), st.lists(st.floats(0, 5), min_size=1, max_size=80))
def test_who_waits_as_told_is_served_and_nobody_gets_more_than_the_rate(
    limit: int, gaps_s: list[float]
) -> None:
    clock = Clock()
    limits, num_allowed = RateLimits(limit, {}, clock), 0
    for gap_s in gaps_s:
        clock.now_s += gap_s
        allowance = limits.take("a")
        assert allowance is not None
        if allowance.retry_after_s is not None:
            # A little more, for numbers are not exact.
            clock.now_s += allowance.retry_after_s * (1 + 1e-9) + 1e-9
            allowance = limits.take("a")
            assert allowance is not None
            assert allowance.retry_after_s is None
        num_allowed += 1

    assert num_allowed <= limit + clock.now_s * limit / 60 + 1e-6


def test_callers_without_number_are_forgotten_the_longest_ago_first() -> None:
    limits = RateLimits(1, {}, Clock(), max_buckets=2)
    for name in ("a", "b", "a", "c"):
        limits.take(name)

    kept, forgotten = limits.take("a"), limits.take("b")

    assert kept is not None
    assert kept.retry_after_s is not None
    assert forgotten is not None
    assert forgotten.retry_after_s is None


KEYS = ApiSettings(
    enable_auth=True,
    rate_limit_per_minute=2,
    api_keys=(
        ApiKey(name="all", key="k-all"),
        ApiKey(name="less", key="k-less", rate_limit_per_minute=1, priority_max=3),
    ),
)


async def send(face: Face, key: str, path: str = CHAT, **fields: object) -> tuple[int, str | None]:
    body = {**SHORTEST.get(path, {"input": "Hi"}), **fields}
    answer = await face.call("POST", path, body, headers={"X-API-Key": key})
    return answer.status_code, answer.headers.get("x-ratelimit-remaining-requests")


async def test_each_key_has_its_own_rate_over_all_paths_that_work() -> None:
    face = Face(settings=KEYS)

    assert await send(face, "k-less") == (200, "0")
    assert await send(face, "k-less", TEXT) == (429, "0")
    assert await send(face, "k-all", VECTORS) == (200, "1")
    # Looking costs nothing.
    models = await face.call("GET", "/v1/models", headers={"X-API-Key": "k-all"})
    assert (models.status_code, "x-ratelimit-limit-requests" in models.headers) == (200, False)
    assert await send(face, "k-all") == (200, "0")
    assert await send(face, "k-all") == (429, "0")
    assert len(face.generator.requests) == 2


async def test_who_is_over_its_rate_is_told_when_to_return_and_counted_as_refused() -> None:
    face = Face(settings=KEYS)
    await send(face, "k-less")

    # It is not even read.
    answer = await face.call(
        "POST", CHAT, content=b"no json", headers={"Authorization": "Bearer k-less"}
    )

    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.headers["retry-after"] == "60"
    assert answer.headers["x-ratelimit-limit-requests"] == "1"
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    [end] = [one for one in face.observer.events if isinstance(one, RequestFinished)]
    assert (end.status, end.error_type) == (RequestStatus.REJECTED, "RateLimitError")
    assert (end.caller, end.operation) == ("less", "chat")


async def test_a_question_to_documents_counts_as_any_other_request() -> None:
    face = Face(settings=KEYS)
    await send(face, "k-less")

    assert await send(face, "k-less", "/api/rag/query") == (429, "0")
    [end] = [one for one in face.observer.events if isinstance(one, RequestFinished)]
    assert (end.status, end.operation) == (RequestStatus.REJECTED, "chat")


async def test_without_keys_each_address_has_the_rate() -> None:
    here = Face(settings=ApiSettings(rate_limit_per_minute=1))

    statuses = [(await here.chat()).status_code for _ in range(2)]
    here.address = "203.0.113.9"
    statuses.append((await here.chat()).status_code)

    assert statuses == [200, 429, 200]


async def test_without_any_limit_nothing_is_counted_or_told() -> None:
    answers = [await Face().chat() for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert "x-ratelimit-limit-requests" not in answers[0].headers
