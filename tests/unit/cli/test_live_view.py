from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.cli.live_view import Look, Missing, Present, lay_out
from mm_orch.cli.styled import Tone, to_text, width_of
from mm_orch.orchestration.reports import HealthStatus, ModelReport, StatusReport
from mm_orch.workers.phase import ModelPhase
from tests.unit.cli.scripted_server import (
    HIGH_LATENCY,
    TUNER,
    figures_of,
    model_report,
    status_report,
)

if TYPE_CHECKING:
    from mm_orch.core.figures import Figures

AT = datetime(2026, 1, 3, 3, 4, 5, tzinfo=UTC)
BUSY = msgspec.structs.replace(
    model_report(), num_running=3, num_waiting=4, kv_use_ratio=0.12, memory_bytes=512_000_000
)
AWAY = model_report("big", engine=None)


def present(*models: ModelReport, figures: Figures | None) -> Present:
    return seen(status_report(*models), figures)


def seen(status: StatusReport, figures: Figures | None = None) -> Present:
    return Present(place="http://h:1", at=AT, status=status, figures=figures)


def texts_of(look: Look, width: int = 120) -> list[str]:
    return [to_text(line) for line in lay_out(look, width)]


def tones_of(look: Look, words: str) -> set[Tone]:
    return {
        piece.tone for line in lay_out(look, 200) for piece in line if words in piece.text.strip()
    }


def test_a_wide_terminal_shows_the_models_as_a_table() -> None:
    assert texts_of(present(BUSY, AWAY, figures=figures_of())) == [
        "muai 0.1.0  http://h:1  healthy  up 12 s  ready for requests",
        "",
        "Requests  3 running  4 of 100 waiting  1.2 req/s  210 tok/s  2 of 130 failed",
        "Machine   CPU 45%  memory 3.1 GB of 16.0 GB  GPU 0 45%, 10.0 GB of 24.0 GB",
        "Alerts    none",
        "Tuner     off (optimization.tuner.enabled is false)",
        "",
        "model         engine   state     run  wait  req/s  tok/s  TTFT p50    p95  batch  reused"
        "   KV  memory",
        "smollm2-135m  pytorch  ready       3     4    1.2    210     41 ms  1.5 s    2.8     55%"
        "  12%  512 MB",
        "big           -        unloaded    0     0    0.0    0.0         -      -      -       -"
        "    -       -",
        "",
        "  req/s, tok/s, batch: last 5 s; TTFT, reuse, failures: last 5 min.",
    ]


def test_a_narrow_one_shows_a_block_for_each() -> None:
    lines = texts_of(present(BUSY, AWAY, figures=figures_of()), 60)

    assert lines[9:15] == [
        "smollm2-135m  pytorch  ready",
        "    run 3  wait 4  req/s 1.2  tok/s 210  TTFT p50 41 ms",
        "    p95 1.5 s  batch 2.8  reused 55%  KV 12%  memory 512 MB",
        "big  unloaded",
        "    run 0  wait 0  req/s 0.0  tok/s 0.0",
        "",
    ]


@given(st.integers(60, 250))
def test_every_line_fits(width: int) -> None:
    model = msgspec.structs.replace(BUSY, wanted_engine="vllm", fallback_reason="it ended " * 20)
    status = msgspec.structs.replace(
        status_report(model, AWAY, reasons=("a reason " * 30,)),
        alerts=(HIGH_LATENCY,) * 3,
        tuner=TUNER,
    )

    lines = lay_out(seen(status, figures_of()), width)

    assert max(width_of(line) for line in lines) <= width


def test_why_it_is_not_as_it_should_be_stands_below_what_it_is_about() -> None:
    model = msgspec.structs.replace(
        BUSY,
        phase=ModelPhase.RESTARTING,
        detail="killed by SIGKILL\nits log",
        wanted_engine="vllm",
        fallback_reason="it ended",
        circuits={"vllm": "open"},
    )
    status = status_report(model, status=HealthStatus.DEGRADED, reasons=("m is restarting",))
    status = msgspec.structs.replace(status, is_draining=True, alerts=(HIGH_LATENCY,))

    lines = texts_of(seen(status, figures_of()))

    assert lines[:3] == [
        "muai 0.1.0  http://h:1  degraded  up 12 s",
        "  draining, takes no new requests",
        "  m is restarting",
    ]
    assert lines[6] == (
        "Alerts    warning high_latency since 2026-01-02 03:04:05: smollm2-135m takes 3.1 s"
    )
    assert lines[11:14] == [
        "    killed by SIGKILL",
        "    in place of vllm: it ended",
        "    vllm failed; its circuit is open",
    ]


def test_without_monitoring_it_says_so_and_shows_what_is_known() -> None:
    lines = texts_of(present(BUSY, figures=None))

    assert lines[2:4] == [
        "Requests  3 running  4 of 100 waiting  1.2 ended/s lately",
        "Machine   not observed: monitoring.enabled is false",
    ]
    assert lines[-1].split()[:7] == ["smollm2-135m", "pytorch", "ready", "3", "4", "-", "-"]


@pytest.mark.parametrize(
    ("alerts", "says"),
    [((), "none"), (None, "off (monitoring.enabled or monitoring.anomaly.enabled is false)")],
)
def test_no_alert_is_told_from_nobody_who_watches(alerts: tuple[()] | None, says: str) -> None:
    status = msgspec.structs.replace(status_report(), alerts=alerts)

    assert f"Alerts    {says}" in texts_of(seen(status, figures_of()))


def test_a_tuner_is_told_with_what_it_tries_has_decided_and_leaves_alone() -> None:
    lines = texts_of(seen(msgspec.structs.replace(status_report(), tuner=TUNER), figures_of()))

    begin = next(number for number, line in enumerate(lines) if line.startswith("Tuner"))
    assert lines[begin : begin + 6] == [
        "Tuner     p95 at most 4000 ms  max_batch_size 16 (on trial, before 8)  batch_timeout_ms 50"
        "  max_memory_mb 4096",
        "          last decision 2 min 5 s ago: try: the batch is full while requests wait:"
        " max_batch_size 8 -> 16",
        "          left alone, as the configuration says: batch_timeout_ms",
        "          left alone, as the engine cannot change it: max_memory_mb",
        "",
        "model         engine   state  run  wait  req/s  tok/s  TTFT p50    p95  batch  reused"
        "  KV  memory",
    ]


def test_figures_of_another_engine_are_not_those_of_the_one_that_runs() -> None:
    lines = texts_of(present(BUSY, figures=figures_of(engine="vllm")))

    assert "41 ms" not in "".join(lines)


@pytest.mark.parametrize(
    ("status", "tone"),
    [
        (HealthStatus.HEALTHY, Tone.GOOD),
        (HealthStatus.DEGRADED, Tone.WARNING),
        (HealthStatus.UNHEALTHY, Tone.BAD),
    ],
)
def test_health_has_its_colour(status: HealthStatus, tone: Tone) -> None:
    assert tones_of(seen(status_report(status=status)), status.value) == {tone}


@pytest.mark.parametrize(
    ("phase", "tone"),
    [
        (ModelPhase.READY, Tone.GOOD),
        (ModelPhase.UNLOADED, Tone.FAINT),
        (ModelPhase.LOADING, Tone.WARNING),
        (ModelPhase.RESTARTING, Tone.WARNING),
        (ModelPhase.STUCK, Tone.BAD),
        (ModelPhase.FAILED, Tone.BAD),
    ],
)
def test_a_phase_has_its_colour(phase: ModelPhase, tone: Tone) -> None:
    model = msgspec.structs.replace(model_report("m"), phase=phase)
    look = present(model, figures=None)
    [cell] = [p for line in lay_out(look, 200)[-1:] for p in line if p.text == phase.value]

    assert cell.tone is tone


def test_a_full_queue_is_an_alarm() -> None:
    status = msgspec.structs.replace(status_report(), num_waiting=100)

    assert tones_of(seen(status), "100 of 100 waiting") == {Tone.BAD}


def test_moments_are_told_in_the_time_zone_of_the_reader() -> None:
    at = datetime(2026, 1, 2, 23, 0, tzinfo=timezone(timedelta(hours=5)))
    status = msgspec.structs.replace(status_report(), alerts=(HIGH_LATENCY,))
    look = Present(place="http://h:1", at=at, status=status, figures=None)

    assert "high_latency since 08:04:05: " in "\n".join(texts_of(look))


def test_a_missing_server_is_waited_for_since_a_time() -> None:
    look = Missing(place="http://h:1", at=AT, since=AT, problem="It gives no status: timed out.")

    assert texts_of(look, 80) == [
        "muai  waiting for the server at http://h:1 since 03:04:05",
        "  It gives no status: timed out.",
    ]
