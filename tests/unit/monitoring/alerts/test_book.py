from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.monitoring.alerts.alert import Identity, Severity, Status
from mm_orch.monitoring.alerts.book import NUM_CLEAR, AlertBook, Change, ChangeKind
from tests.unit.monitoring.alerts.alerts import IDENTITY, at, breach

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERVAL_S = 10.0
LIMIT_S = 300.0
WARNING, ERROR, CRITICAL = Severity
BEGUN, WORSENED, REPEATED, RESOLVED = ChangeKind


class Days:
    """A book and the time that its evaluations pass."""

    def __init__(self, **limits: int) -> None:
        self.book = AlertBook(rate_limit_s=LIMIT_S, **limits)
        self.num_evaluations = 0

    def take(self, severity: Severity | None, *, times: int = 1) -> list[Change]:
        found = [] if severity is None else [breach(severity)]
        changes = []
        for _ in range(times):
            seconds = self.num_evaluations * INTERVAL_S
            self.num_evaluations += 1
            changes += self.book.take(found, seconds, at(seconds))
        return changes

    def kinds(self, severity: Severity | None, *, times: int = 1) -> list[ChangeKind]:
        return [change.kind for change in self.take(severity, times=times) if not change.is_held]


@pytest.fixture
def days() -> Days:
    return Days()


def test_an_alert_begins_at_once(days: Days) -> None:
    [change] = days.take(WARNING)

    assert (change.kind, change.is_held) == (BEGUN, False)
    assert change.notice.status is Status.FIRING
    assert change.notice.starts_at == at(0)
    assert days.book.firing(at(0)) == (change.notice,)


def test_one_that_goes_on_is_told_again_at_the_rate_limit(days: Days) -> None:
    assert days.kinds(WARNING, times=30) == [BEGUN]
    assert days.kinds(WARNING) == [REPEATED]
    assert days.kinds(WARNING, times=29) == []


def test_one_that_grows_worse_is_told_at_once(days: Days) -> None:
    days.take(WARNING)

    assert days.kinds(ERROR) == [WORSENED]
    [change] = days.take(CRITICAL)

    assert change.notice.severity is CRITICAL
    assert change.notice.starts_at == at(0)


def test_one_that_grows_milder_is_milder_after_some_evaluations_and_tells_nothing(
    days: Days,
) -> None:
    days.take(CRITICAL)

    assert days.kinds(WARNING, times=NUM_CLEAR - 1) == []
    assert days.book.firing(at(0))[0].severity is CRITICAL
    assert days.kinds(WARNING) == []
    assert days.book.firing(at(0))[0].severity is WARNING


def test_a_severity_that_wavers_is_not_told_each_time(days: Days) -> None:
    kinds = []
    for _ in range(3):
        kinds += days.kinds(CRITICAL) + days.kinds(WARNING, times=NUM_CLEAR + 1)

    assert kinds == [BEGUN]


def test_an_alert_ends_after_some_evaluations_without_a_breach(days: Days) -> None:
    days.take(ERROR)

    assert days.kinds(None, times=NUM_CLEAR - 1) == []
    [change] = days.take(None)

    assert change.kind is RESOLVED
    assert (change.notice.status, change.notice.severity) == (Status.RESOLVED, ERROR)
    assert (change.notice.starts_at, change.notice.ends_at) == (at(0), at(NUM_CLEAR * INTERVAL_S))
    assert days.book.firing(at(0)) == ()


def test_one_that_wavers_about_its_limit_neither_ends_nor_begins_again(days: Days) -> None:
    days.take(WARNING)

    assert days.kinds(None, times=NUM_CLEAR - 1) + days.kinds(WARNING) == []
    assert days.kinds(None, times=NUM_CLEAR - 1) + days.kinds(WARNING) == []


def test_one_that_comes_back_within_the_rate_limit_is_told_when_that_is_over(days: Days) -> None:
    days.take(WARNING)
    days.take(None, times=NUM_CLEAR)

    [held] = days.take(WARNING)
    assert (held.kind, held.is_held) == (BEGUN, True)
    # It does fire, though.
    assert len(days.book.firing(at(0))) == 1
    later = days.take(WARNING, times=30)
    assert [(change.kind, change.is_held) for change in later] == [(REPEATED, False)]


def test_the_end_of_what_was_not_told_is_not_told(days: Days) -> None:
    days.take(WARNING)
    days.take(None, times=NUM_CLEAR)
    days.take(WARNING)

    [change] = days.take(None, times=NUM_CLEAR)

    assert (change.kind, change.is_held) == (RESOLVED, True)


def test_one_that_comes_back_worse_is_told_at_once(days: Days) -> None:
    days.take(WARNING)
    days.take(None, times=NUM_CLEAR)

    assert days.kinds(CRITICAL) == [BEGUN]


def test_one_that_grows_worse_after_it_came_back_milder_is_told_with_its_end(days: Days) -> None:
    days.take(CRITICAL)
    days.take(None, times=NUM_CLEAR)

    assert days.kinds(WARNING) == []
    assert days.kinds(ERROR) == [WORSENED]
    assert days.kinds(None, times=NUM_CLEAR) == [RESOLVED]


def test_one_that_comes_back_after_the_rate_limit_begins_anew(days: Days) -> None:
    days.take(CRITICAL)
    days.take(None, times=40)

    [change] = days.take(WARNING)

    assert (change.kind, change.is_held) == (BEGUN, False)
    assert change.notice.starts_at == at(41 * INTERVAL_S)


def test_identities_do_not_share_a_rate_limit(days: Days) -> None:
    days.take(WARNING)
    other = breach(WARNING, Identity("anomaly", "small", "pytorch"))

    changes = days.book.take([breach(WARNING), other], 20, at(20))

    assert [(change.kind, change.notice.identity) for change in changes] == [
        (BEGUN, other.identity)
    ]


def test_history_has_the_newest_first_and_is_bounded() -> None:
    days = Days(max_history=3)
    days.take(WARNING)
    days.take(ERROR)
    days.take(CRITICAL)
    days.take(CRITICAL, times=60)
    days.take(None, times=NUM_CLEAR)

    told = [(notice.status, notice.severity) for notice in days.book.history()]

    assert told == [
        (Status.RESOLVED, CRITICAL),
        (Status.FIRING, CRITICAL),
        (Status.FIRING, ERROR),
    ]


def test_more_identities_than_there_is_room_for_are_not_taken() -> None:
    book = AlertBook(rate_limit_s=0, max_identities=2)
    many = [breach(WARNING, Identity("anomaly", f"m{number}")) for number in range(5)]

    assert len(book.take(many, 0, at(0))) == 2
    assert len(book.firing(at(0))) == 2


def test_what_has_ended_makes_room() -> None:
    book = AlertBook(rate_limit_s=0, max_identities=1, num_clear=1)
    book.take([breach(WARNING)], 0, at(0))
    book.take([], 10, at(10))

    [change] = book.take([breach(WARNING, Identity("anomaly", "other"))], 20, at(20))

    assert change.kind is BEGUN


@given(grades=st.lists(st.sampled_from([None, *Severity]), max_size=120))
def test_what_is_told_is_bounded_and_whole(grades: Sequence[Severity | None]) -> None:
    days = Days()
    last_told: tuple[int, Severity] | None = None
    worst: Severity | None = None
    is_told = False
    for number, grade in enumerate(grades):
        changes = days.take(grade)
        for change in changes:
            severity = change.notice.severity
            if change.kind is RESOLVED:
                assert change.is_held != is_told
                worst, is_told = None, False
                continue
            is_worse = worst is not None and severity > worst
            if is_worse:
                assert (change.kind, change.is_held) == (WORSENED, False)
            if change.is_held:
                assert change.kind is BEGUN
            elif last_told is not None and number - last_told[0] < LIMIT_S / INTERVAL_S:
                # Within the rate limit, only what is worse passes.
                assert change.kind is WORSENED or severity > last_told[1]
            if not change.is_held:
                last_told, is_told = (number, severity), True
        if grade is not None:
            assert worst is None or grade <= worst or changes
            worst = grade if worst is None else max(worst, grade)
    is_firing = bool(days.book.firing(at(0)))
    assert is_firing == any(grade is not None for grade in grades[-NUM_CLEAR:])
    assert all(notice.identity == IDENTITY for notice in days.book.history())
