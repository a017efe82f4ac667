"""What the figures of an overload are, and whether they meet the bars."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.slopes import estimate_slope
from benchmarks.statistics import Verdict, judge_at_most, judge_value
from mm_orch.benchmarking.summary import Spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.patient import Wait
    from benchmarks.slopes import Series
    from mm_orch.benchmarking.records import RequestRecord, RunRecord

LATENCY_BAR = 1.5
TTFT_BAR = 1.5
REFUSAL_BAR_MS = 50.0
# Ten refusals for each answer: 1 KiB kept of each would be six times as much at 100 requests/s.
MEMORY_BAR_MIB_PER_MIN = 1.0
# Whoever comes back stands beside ten newcomers for each place: one try in ten succeeds, and one
# client in 500 is not in after 60 tries of a second.
PATIENCE_S = 60.0
MIN_OVERLOAD = 9.0
"""Arrivals are random: ten times as many were wanted, and so many came at least."""

_WARM_UP_SHARE = 0.2
_MINUTE_S = 60.0
_MS = 1000.0
_NUM_DIGITS = 4
_MAX_SHOWN_FAULTS = 5


@dataclass(slots=True, kw_only=True)
class Overload:
    """What was measured.

    Attributes:
        unloaded: requests of high priority, one after another, with nothing else.
        saturated: a closed loop of as many clients as the batch and the queue have places.
        flood: the open loop at several times what the closed loop got answered.
        urgent: requests of high priority beside it.
        waits: of clients that come back when they are told to.
        memory: of each process during the flood, in MiB.
    """

    unloaded: RunRecord
    saturated: RunRecord
    flood: RunRecord
    urgent: RunRecord
    waits: list[Wait] = field(default_factory=list)
    memory: Mapping[str, Series] = field(default_factory=dict)

    @property
    def refused(self) -> list[RequestRecord]:
        """What was turned away of the flood."""
        return [one for one in self.flood.requests if one.is_turned_away]


def answered(run: RunRecord) -> list[RequestRecord]:
    """Return the requests that have a whole answer."""
    return [one for one in run.requests if one.error is None]


def capacity_of(saturated: RunRecord) -> float:
    """Return how many requests a second the closed loop got answered."""
    return len(answered(saturated)) / saturated.wall_s


def note_overload(figures: dict[str, object], measured: Overload) -> dict[str, Verdict]:
    """Put what was measured into the results; return the verdicts on the bars."""
    figures |= {
        "capacity_requests_per_s": round(capacity_of(measured.saturated), _NUM_DIGITS),
        "offered_requests_per_s": round(measured.flood.offered_per_s or 0.0, _NUM_DIGITS),
        "num_offered": len(measured.flood.requests),
        "num_accepted": len(answered(measured.flood)),
        "num_refused": len(measured.refused),
        "generator_late_p50_ms": _ms(_lateness(measured).p50_s),
        "generator_late_p99_ms": _ms(_lateness(measured).p99_s),
    }
    return {
        **_note_latency(figures, measured),
        **_note_refusals(figures, measured),
        **_note_waits(figures, measured.waits),
        **_note_memory(figures, measured.memory),
        **_note_urgent(figures, measured),
    }


def faults_of(measured: Overload) -> list[str]:
    """Return why the figures must not be used."""
    faults = [
        f"{run.load}: {one.error}"
        for run in (measured.unloaded, measured.saturated, measured.flood, measured.urgent)
        for one in run.requests
        if one.error is not None and not one.is_turned_away
    ][:_MAX_SHOWN_FAULTS]
    faults += [
        f"{run.load}: {num_turned_away} were turned away"
        for run in (measured.unloaded, measured.saturated)
        if (num_turned_away := sum(one.is_turned_away for one in run.requests))
    ]
    faults += [f"patient client: {one.error}" for one in measured.waits if one.error is not None]
    overload = (measured.flood.offered_per_s or 0.0) / capacity_of(measured.saturated)
    if overload < MIN_OVERLOAD:
        faults.append(f"only {overload:.1f} times what the server answers was offered")
    return faults


def _note_latency(figures: dict[str, object], measured: Overload) -> dict[str, Verdict]:
    saturated = Spread.of([one.total_s for one in answered(measured.saturated)])
    accepted = Spread.of([one.total_s for one in answered(measured.flood)])
    ratio = accepted.p95_s / saturated.p95_s
    figures |= {
        "saturated_p50_s": round(saturated.p50_s, _NUM_DIGITS),
        "saturated_p95_s": round(saturated.p95_s, _NUM_DIGITS),
        "accepted_p50_s": round(accepted.p50_s, _NUM_DIGITS),
        "accepted_p95_s": round(accepted.p95_s, _NUM_DIGITS),
        "accepted_p95_ratio": round(ratio, _NUM_DIGITS),
        "bar_accepted_p95_ratio": LATENCY_BAR,
    }
    return {"accepted_p95": judge_value(ratio, LATENCY_BAR)}


def _note_refusals(figures: dict[str, object], measured: Overload) -> dict[str, Verdict]:
    # From when it was really sent: how late the generator was is no fault of the server's.
    refusals = Spread.of([one.total_s - one.late_s for one in measured.refused])
    figures |= {
        "refusal_p50_ms": _ms(refusals.p50_s),
        "refusal_p95_ms": _ms(refusals.p95_s),
        "refusal_p99_ms": _ms(refusals.p99_s),
        "refusal_max_ms": _ms(refusals.max_s),
        "bar_refusal_p99_ms": REFUSAL_BAR_MS,
    }
    return {"refusal_p99": judge_value(refusals.p99_s * _MS, REFUSAL_BAR_MS)}


def _note_waits(figures: dict[str, object], waits: Sequence[Wait]) -> dict[str, Verdict]:
    # Who was let in at once says nothing; who was given up with the flood had not waited for the
    # bound yet, or counts as too late.
    refused = [one for one in waits if one.told_s]
    counted = [one for one in refused if one.is_in or one.waited_s > PATIENCE_S]
    within = [one for one in counted if one.is_in and one.waited_s <= PATIENCE_S]
    figures |= {
        "patient_num_let_in_at_once": len(waits) - len(refused),
        "patient_num_refused_first": len(counted),
        "patient_num_in_time": len(within),
        "patient_tries_median": Spread.of([one.num_tries for one in counted]).p50_s,
        "patient_tries_most": max((one.num_tries for one in counted), default=0),
        "patient_wait_p50_s": round(Spread.of([one.waited_s for one in counted]).p50_s, 2),
        "patient_wait_max_s": round(max((one.waited_s for one in counted), default=0.0), 2),
        "patient_told_max_s": max((told for one in waits for told in one.told_s), default=0),
        "bar_patient_wait_max_s": PATIENCE_S,
    }
    is_met = len(within) == len(counted)
    verdict = Verdict.MET if is_met else Verdict.MISSED
    return {"patient_client_gets_in": verdict if counted else Verdict.NOT_SHOWN}


def _note_memory(figures: dict[str, object], memory: Mapping[str, Series]) -> dict[str, Verdict]:
    figures["bar_memory_mib_per_min"] = MEMORY_BAR_MIB_PER_MIN
    verdicts = {}
    for name, series in memory.items():
        duration_s = series.times_s[-1] - series.times_s[0]
        later = series.since(series.times_s[0] + _WARM_UP_SHARE * duration_s)
        slope = estimate_slope([later], unit_s=_MINUTE_S)
        figures[f"{name}_memory_first_mib"] = round(series.values[0], 1)
        figures[f"{name}_memory_last_mib"] = round(series.values[-1], 1)
        figures[f"{name}_memory_mib_per_min"] = slope.rounded
        verdicts[f"{name}_memory_is_flat"] = judge_at_most(slope, MEMORY_BAR_MIB_PER_MIN)
    return verdicts


def _note_urgent(figures: dict[str, object], measured: Overload) -> dict[str, Verdict]:
    unloaded = Spread.of([_ttft_s(one) for one in measured.unloaded.requests])
    # One that was refused has no first token, so that its time is longer than any.
    urgent = Spread.of([_ttft_s(one) for one in measured.urgent.requests])
    accepted = Spread.of([_ttft_s(one) for one in answered(measured.urgent)])
    figures |= {
        "urgent_num_requests": len(measured.urgent.requests),
        "urgent_num_refused": sum(one.is_turned_away for one in measured.urgent.requests),
        "urgent_accepted_ttft_p50_s": round(accepted.p50_s, _NUM_DIGITS),
        "urgent_accepted_ttft_p95_s": round(accepted.p95_s, _NUM_DIGITS),
        "bar_urgent_ttft_ratio": TTFT_BAR,
    }
    verdicts = {}
    for name, alone_s, loaded_s in (
        ("p50", unloaded.p50_s, urgent.p50_s),
        ("p95", unloaded.p95_s, urgent.p95_s),
    ):
        ratio = loaded_s / alone_s
        figures[f"unloaded_ttft_{name}_s"] = round(alone_s, _NUM_DIGITS)
        figures[f"urgent_ttft_{name}_s"] = _finite(loaded_s)
        figures[f"urgent_ttft_{name}_ratio"] = _finite(ratio)
        verdicts[f"urgent_ttft_{name}"] = judge_value(ratio, TTFT_BAR)
    return verdicts


def _ttft_s(record: RequestRecord) -> float:
    return math.inf if record.ttft_s is None else record.ttft_s


def _lateness(measured: Overload) -> Spread:
    return Spread.of([one.late_s for one in measured.flood.requests])


def _finite(value: float) -> float | None:
    """Return a figure as JSON can have it: None for what never came."""
    return round(value, _NUM_DIGITS) if math.isfinite(value) else None


def _ms(seconds: float) -> float:
    return round(seconds * _MS, 2)
