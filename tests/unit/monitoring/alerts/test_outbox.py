from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.monitoring.alerts.alert import Identity, Severity, Status
from mm_orch.monitoring.alerts.outbox import ChangeOutbox, StateOutbox
from tests.unit.monitoring.alerts.alerts import firing

if TYPE_CHECKING:
    from mm_orch.monitoring.alerts.outbox import Outbox, Parcel

RESEND_S = 60.0
FIRING, RESOLVED = Status


def contents(parcel: Parcel | None) -> list[tuple[Status, Severity]]:
    return [] if parcel is None else [(one.status, one.severity) for one in parcel.notices]


def send(outbox: Outbox, now_s: float) -> list[tuple[Status, Severity]]:
    parcel = outbox.peek()
    if parcel is not None:
        outbox.settle(parcel, now_s)
    return contents(parcel)


def test_changes_are_given_out_one_by_one_in_order() -> None:
    outbox = ChangeOutbox(8)
    outbox.put([firing(severity) for severity in Severity], [], 5)

    assert len(outbox) == 3
    assert [send(outbox, 6) for _ in range(4)] == [
        [(FIRING, Severity.WARNING)],
        [(FIRING, Severity.ERROR)],
        [(FIRING, Severity.CRITICAL)],
        [],
    ]


def test_a_full_outbox_of_changes_drops_the_oldest() -> None:
    outbox = ChangeOutbox(2)
    outbox.put([firing(Severity.WARNING)], [], 0)
    in_flight = outbox.peek()
    assert in_flight is not None

    assert outbox.put([firing(Severity.ERROR), firing(Severity.CRITICAL)], [], 0) == 1

    outbox.settle(in_flight, 0)
    assert len(outbox) == 2
    assert send(outbox, 0) == [(FIRING, Severity.ERROR)]


def test_state_is_given_out_when_it_changes_and_again_after_a_while() -> None:
    outbox = StateOutbox(8, RESEND_S)
    alert = firing()

    outbox.put([alert], [alert], 0)
    assert send(outbox, 0) == [(FIRING, Severity.WARNING)]
    outbox.put([], [alert], 59)
    assert send(outbox, 59) == []
    outbox.put([], [alert], 60)
    assert send(outbox, 60) == [(FIRING, Severity.WARNING)]


def test_what_fires_no_more_is_given_out_as_ended_until_it_is_sent() -> None:
    outbox = StateOutbox(8, RESEND_S)
    outbox.put([], [firing()], 0)
    send(outbox, 0)

    outbox.put([], [], 10)
    assert contents(outbox.peek()) == [(RESOLVED, Severity.WARNING)]
    assert send(outbox, 20) == [(RESOLVED, Severity.WARNING)]
    assert send(outbox, 1000) == []


def test_another_severity_ends_the_alert_with_the_old_one() -> None:
    outbox = StateOutbox(8, RESEND_S)
    outbox.put([], [firing(Severity.WARNING)], 0)
    send(outbox, 0)

    worse = firing(Severity.ERROR, seconds=10)
    outbox.put([worse], [worse], 10)

    parcel = outbox.peek()
    assert contents(parcel) == [(RESOLVED, Severity.WARNING), (FIRING, Severity.ERROR)]
    assert parcel is not None
    assert parcel.notices[0].ends_at == worse.at
    assert send(outbox, 10)
    outbox.put([], [worse], 70)
    assert send(outbox, 70) == [(FIRING, Severity.ERROR)]


def test_what_comes_back_before_its_end_was_sent_fires() -> None:
    outbox = StateOutbox(8, RESEND_S)
    outbox.put([], [firing()], 0)
    send(outbox, 0)
    outbox.put([], [], 10)
    outbox.put([], [firing()], 20)

    assert send(outbox, 20) == [(FIRING, Severity.WARNING)]


def test_what_changes_while_it_is_sent_is_sent_after_that() -> None:
    outbox = StateOutbox(8, RESEND_S)
    outbox.put([], [firing()], 0)
    in_flight = outbox.peek()
    assert in_flight is not None

    outbox.put([], [], 10)
    outbox.settle(in_flight, 10)

    assert send(outbox, 10) == [(RESOLVED, Severity.WARNING)]


def test_ended_alerts_that_cannot_be_sent_are_bounded() -> None:
    outbox = StateOutbox(2, RESEND_S)
    many = [firing(identity=Identity("anomaly", f"m{number}")) for number in range(5)]
    outbox.put([], many, 0)

    assert outbox.put([], [], 10) == 3
    assert len(outbox) == 2


def test_the_age_of_a_state_is_that_of_its_first_unsent_change() -> None:
    outbox = StateOutbox(8, RESEND_S)
    outbox.put([], [firing()], 5)
    outbox.put([], [firing(Severity.ERROR)], 15)

    parcel = outbox.peek()

    assert parcel is not None
    assert parcel.put_at_s == 5
