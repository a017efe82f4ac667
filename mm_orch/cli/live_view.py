"""What --status --watch shows: a look at the server becomes lines, and nothing else happens."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mm_orch.cli.model_rows import lay_out_models
from mm_orch.cli.status import ALERTS_OFF, name_readiness
from mm_orch.cli.styled import Piece, Tone, flow
from mm_orch.cli.tuner_words import TUNER_OFF, list_values, name_target, tell_notes
from mm_orch.cli.words import name_duration, name_number, name_size
from mm_orch.orchestration.reports import HealthStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.cli.styled import Line
    from mm_orch.core.figures import Figures, GpuFigures
    from mm_orch.core.observations import FiringAlert
    from mm_orch.core.tuning_report import TunerReport
    from mm_orch.orchestration.reports import StatusReport

_INDENT = 10
# Narrower terminals have their lines cut.
_MIN_WRAP = 20
_TONE_BY_HEALTH = {
    HealthStatus.HEALTHY: Tone.GOOD,
    HealthStatus.DEGRADED: Tone.WARNING,
    HealthStatus.UNHEALTHY: Tone.BAD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The server answered.

    Attributes:
        place: its URL.
        at: when, in local time.
        figures: None where nothing is observed.
    """

    place: str
    at: datetime
    status: StatusReport
    figures: Figures | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """It did not.

    Attributes:
        place: the URL where it is waited for.
        at: when it was last asked, in local time.
        since: when it was first missed.
        problem: what is in the way, where something of ours answers there.
    """

    place: str
    at: datetime
    since: datetime
    problem: str = ""


Look = Present | Missing


def lay_out(look: Look, width: int) -> list[Line]:
    """Return the lines that tell of a look.

    Args:
        look: what the server said, or that it did not.
        width: columns that there are; a line may still be longer where it cannot be divided.
    """
    match look:
        case Present():
            return list(_present(look, width))
        case Missing():
            return list(_missing(look, width))


def _missing(look: Missing, width: int) -> Iterator[Line]:
    words = f"waiting for the server at {look.place} since {_name_moment(look.since, look.at)}"
    yield (Piece("muai", Tone.STRONG), Piece("  "), Piece(words, Tone.WARNING))
    yield from _wrapped(look.problem, width, Tone.PLAIN)


def _present(look: Present, width: int) -> Iterator[Line]:
    status, figures = look.status, look.figures
    yield from _head(look, width)
    yield ()
    yield from _requests(status, figures, width)
    yield from _machine(figures, width)
    yield from _alerts(status.alerts, look.at, width)
    yield from _tuner(status.tuner, look.at, width)
    yield ()
    yield from lay_out_models(status.models, figures, width)
    if figures is not None and status.models:
        yield ()
        yield from _wrapped(_explain_spans(figures), width, Tone.FAINT)


def _head(look: Present, width: int) -> Iterator[Line]:
    status, health = look.status, look.status.health
    tone = _TONE_BY_HEALTH[health.status]
    is_serving = status.is_ready and not status.is_draining
    readiness = name_readiness(status)
    facts = [
        (Piece(f"muai {health.version}", Tone.STRONG),),
        (Piece(look.place),),
        (Piece(health.status.value, tone),),
        (Piece(f"up {name_duration(health.uptime_seconds)}"),),
    ]
    yield from flow([*facts, (Piece(readiness),)] if is_serving else facts, width)
    if not is_serving:
        yield from _wrapped(readiness, width, Tone.WARNING)
    for reason in health.degradation_reasons:
        yield from _wrapped(reason, width, tone)


def _requests(status: StatusReport, figures: Figures | None, width: int) -> Iterator[Line]:
    capacity = status.health.queue_capacity
    is_full = status.num_waiting >= capacity
    facts = [
        (Piece(f"{status.num_running} running"),),
        (
            Piece(
                f"{status.num_waiting} of {capacity} waiting",
                Tone.BAD if is_full else Tone.PLAIN,
            ),
        ),
    ]
    if figures is None:
        if status.requests_per_second is not None:
            facts.append((Piece(f"{name_number(status.requests_per_second)} ended/s lately"),))
    else:
        if figures.history.points:
            total = figures.history.points[-1].total
            facts.append((Piece(f"{name_number(total.requests_per_second)} req/s"),))
            facts.append((Piece(f"{name_number(total.tokens_per_second)} tok/s"),))
        num_failed = sum(model.num_failed for model in figures.models)
        num_requests = sum(model.num_requests for model in figures.models)
        tone = Tone.BAD if num_failed else Tone.PLAIN
        facts.append((Piece(f"{num_failed} of {num_requests} failed", tone),))
    yield from flow(facts, width, label="Requests", indent=_INDENT)


def _machine(figures: Figures | None, width: int) -> Iterator[Line]:
    facts: list[str] = []
    if figures is None:
        facts.append("not observed: monitoring.enabled is false")
    else:
        resources = figures.resources
        if (cpu := resources.cpu_percent) is not None:
            facts.append(f"CPU {cpu.last:.0f}%")
        if (memory := resources.memory_used_bytes) is not None:
            total = name_size(resources.memory_total_bytes)
            facts.append(f"memory {name_size(round(memory.last))} of {total}")
        facts += [_describe_gpu(gpu) for gpu in resources.gpus]
    lines = ((Piece(fact),) for fact in facts or ["not read yet"])
    yield from flow(lines, width, label="Machine", indent=_INDENT)


def _describe_gpu(gpu: GpuFigures) -> str:
    total = name_size(gpu.memory_total_bytes)
    facts = [
        gpu.utilization_percent and f"{gpu.utilization_percent.last:.0f}%",
        gpu.memory_used_bytes and f"{name_size(round(gpu.memory_used_bytes.last))} of {total}",
        gpu.temperature_celsius and f"{gpu.temperature_celsius.last:.0f} °C",
        gpu.fault,
    ]
    return f"GPU {gpu.gpu_id} {', '.join(fact for fact in facts if fact)}"


def _alerts(alerts: tuple[FiringAlert, ...] | None, at: datetime, width: int) -> Iterator[Line]:
    label = Piece("Alerts".ljust(_INDENT), Tone.STRONG)
    if alerts is None:
        yield from flow([(Piece(ALERTS_OFF),)], width, label="Alerts", indent=_INDENT)
        return
    if not alerts:
        yield (label, Piece("none"))
    for alert in alerts:
        tone = Tone.BAD if alert.severity == "critical" else Tone.WARNING
        since = _name_moment(datetime.fromisoformat(alert.since), at)
        text = f"{alert.severity} {alert.alert_type} since {since}: {alert.message}"
        for line in _wrap(text, width - _INDENT, subsequent_indent="  "):
            yield (label, Piece(line, tone))
            label = Piece(" " * _INDENT)


def _tuner(tuner: TunerReport | None, at: datetime, width: int) -> Iterator[Line]:
    facts = [TUNER_OFF] if tuner is None else [name_target(tuner), *list_values(tuner)]
    yield from flow(((Piece(fact),) for fact in facts), width, label="Tuner", indent=_INDENT)
    if tuner is None:
        return
    for note in tell_notes(tuner, at):
        for line in _wrap(note, width - _INDENT, subsequent_indent="  "):
            yield (Piece(" " * _INDENT), Piece(line))


def _name_moment(moment: datetime, now: datetime) -> str:
    """Return a moment in the time zone of now: its time, with its day where that is another."""
    local = moment.astimezone(now.tzinfo)
    return f"{local:%H:%M:%S}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M:%S}"


def _explain_spans(figures: Figures) -> str:
    window = name_duration(figures.window_seconds)
    if not figures.history.points:
        return f"TTFT, reuse, failures: last {window}."
    interval = name_duration(figures.history.interval_seconds)
    return f"req/s, tok/s, batch: last {interval}; TTFT, reuse, failures: last {window}."


def _wrapped(text: str, width: int, tone: Tone) -> Iterator[Line]:
    for line in _wrap(text, width - 2):
        yield (Piece(f"  {line}", tone),)


def _wrap(text: str, width: int, *, subsequent_indent: str = "") -> list[str]:
    return textwrap.wrap(text, max(width, _MIN_WRAP), subsequent_indent=subsequent_indent)
