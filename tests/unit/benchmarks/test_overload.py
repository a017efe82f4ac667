"""What the benchmark of an overload makes of what it saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.overload_summary import Overload, faults_of, note_overload
from benchmarks.patient import Wait, ask_patiently
from benchmarks.slopes import Series
from benchmarks.statistics import Verdict
from mm_orch.benchmarking.records import RequestRecord, RunRecord
from mm_orch.benchmarking.workloads import Session, Turn, Workload
from tests.unit.benchmarking.peer import Peer, answer, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED_FOR_S = 0.01


def answered(total_s: float, ttft_s: float = 0.1) -> RequestRecord:
    return RequestRecord(session=0, turn=0, begin_s=0.0, pieces_s=(ttft_s, total_s), end_s=total_s)


def refused(total_s: float = REFUSED_FOR_S, late_s: float = 0.0) -> RequestRecord:
    return RequestRecord(
        session=0,
        turn=0,
        begin_s=0.0,
        pieces_s=(),
        end_s=total_s,
        late_s=late_s,
        error="HTTP 503: queue_full",
        is_turned_away=True,
    )


def run_of(
    *records: RequestRecord, wall_s: float = 1.0, offered_per_s: float | None = None
) -> RunRecord:
    return RunRecord(
        workload="w",
        load="l",
        requests=records,
        wall_s=wall_s,
        generator_cpu_s=0.0,
        offered_per_s=offered_per_s,
    )


def line(slope_per_s: float, num_samples: int = 100) -> Series:
    return Series.of((float(at_s), 100.0 + slope_per_s * at_s) for at_s in range(num_samples))


def measured(
    *,
    accepted_s: float = 1.0,
    refusals: Sequence[RequestRecord] = (refused(),),
    urgent: Sequence[RequestRecord] = (answered(1.0, 0.14),),
    waits: Sequence[Wait] = (Wait(told_s=[2, 1], waited_s=3.0, is_in=True),),
    slope_per_s: float = 0.0,
    offered_per_s: float = 10.0,
) -> Overload:
    return Overload(
        unloaded=run_of(answered(1.0)),
        saturated=run_of(answered(1.0)),
        flood=run_of(answered(accepted_s), *refusals, offered_per_s=offered_per_s),
        urgent=run_of(*urgent),
        waits=list(waits),
        memory={"server": line(slope_per_s)},
    )


@pytest.mark.parametrize(
    ("what", "missed"),
    [
        (measured(), set()),
        (measured(accepted_s=1.6), {"accepted_p95"}),
        (measured(refusals=[refused(0.06)]), {"refusal_p99"}),
        # The generator was late, not the server.
        (measured(refusals=[refused(0.06, late_s=0.02)]), set()),
        (measured(slope_per_s=2 / 60), {"server_memory_is_flat"}),
        (measured(urgent=[answered(1.0, 0.16)]), {"urgent_ttft_p50", "urgent_ttft_p95"}),
        # One of ten is refused: the median keeps its time, the slowest never comes.
        (measured(urgent=[answered(1.0)] * 9 + [refused()]), {"urgent_ttft_p95"}),
        (measured(waits=[Wait([1], waited_s=61.0, is_in=True)]), {"patient_client_gets_in"}),
        (measured(waits=[Wait([1], waited_s=61.0)]), {"patient_client_gets_in"}),
        # Given up with the flood, before the bound.
        (measured(waits=[Wait([1], waited_s=3.0, is_in=True), Wait([1], waited_s=9.0)]), set()),
        # Let in at once, which shows nothing.
        (measured(waits=[Wait(is_in=True)]), {"patient_client_gets_in"}),
    ],
)
def test_each_bar_is_held_against_what_was_seen(what: Overload, missed: set[str]) -> None:
    verdicts = note_overload({}, what)

    assert {bar for bar, verdict in verdicts.items() if verdict is not Verdict.MET} == missed


def test_a_first_token_that_never_came_is_no_number() -> None:
    figures: dict[str, object] = {}

    note_overload(figures, measured(urgent=[refused()]))

    assert figures["urgent_num_refused"] == 1
    assert figures["urgent_ttft_p50_s"] is None
    assert figures["urgent_ttft_p50_ratio"] is None
    assert figures["unloaded_ttft_p50_s"] == 0.1


def test_what_is_no_overload_or_fails_otherwise_is_a_fault() -> None:
    broken = RequestRecord(session=0, turn=0, begin_s=0, pieces_s=(), end_s=1, error="HTTP 500: x")

    assert faults_of(measured()) == []
    assert faults_of(measured(refusals=[broken])) == ["l: HTTP 500: x"]
    assert faults_of(measured(offered_per_s=5.0)) == [
        "only 5.0 times what the server answers was offered"
    ]
    assert faults_of(measured(waits=[Wait(error="no Retry-After: HTTP 503: x")])) == [
        "patient client: no Retry-After: HTTP 503: x"
    ]
    turned_away = measured()
    turned_away.saturated = run_of(answered(1.0), refused())
    assert faults_of(turned_away) == ["l: 1 were turned away"]


def workload() -> Workload:
    return Workload(name="w", is_chat=True, sessions=(Session(turns=(Turn("a", 2),)),))


async def test_a_patient_client_waits_as_long_as_it_is_told() -> None:
    peer = Peer()

    def refuse_first(body: dict[str, object]) -> bytes:
        if len(peer.bodies) == 1:
            head = (
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n"
            )
            return head + b"{}"
        return answer(body)

    peer.answer = refuse_first
    async with serving(peer):
        waits = await ask_patiently(peer.target, workload(), duration_s=1.0)

    assert (waits[0].told_s, waits[0].num_tries, waits[0].is_in) == ([0], 2, True)
    assert all(wait.is_in and wait.error is None for wait in waits)
    assert len(peer.bodies) == sum(wait.num_tries for wait in waits)


async def test_a_patient_client_gives_up_who_would_wait_beyond_the_end() -> None:
    peer = Peer()
    peer.answer = lambda _: (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\n{}"
    )
    async with serving(peer):
        [wait] = await ask_patiently(peer.target, workload(), duration_s=0.05)

    assert (set(wait.told_s), wait.is_in, wait.error) == ({9}, False, None)
    assert len(peer.bodies) == wait.num_tries


async def test_a_refusal_that_says_no_time_is_an_error() -> None:
    refusal = b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(Peer(answer=lambda _: refusal)) as peer:
        waits = await ask_patiently(peer.target, workload(), duration_s=5.0)

    assert [wait.error for wait in waits] == ["no Retry-After: HTTP 429: {}"]
