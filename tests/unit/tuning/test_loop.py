"""The loop: events in, decisions out, over options in memory."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import InvalidValueError, ModelUnavailableError
from mm_orch.core.events import (
    CacheUsed,
    ErrorOccurred,
    FirstTokenProduced,
    LoadChanged,
    RequestFinished,
    RequestStatus,
    ResourcesRead,
    StepCompleted,
    TokenGap,
)
from mm_orch.core.tuning_events import (
    GUARDED_OPTIONS,
    TUNED_OPTIONS,
    GuardStepTold,
    TunedValuesRead,
    TuningDecided,
)
from mm_orch.monitoring.prometheus import PrometheusObserver
from mm_orch.tuning.decisions import SEVERAL
from mm_orch.tuning.kept_memory import FileMemory
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, MIN_BATCH_SIZE, QUEUE_CAPACITY
from mm_orch.tuning.loop import Tuner
from mm_orch.tuning.windows import WindowReader
from tests.recorder import Recorder
from tests.tuning_simulation import make_setting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mm_orch.core.events import Event

WINDOW_S = 15.0


class Options:
    """Live options in memory; those in ``refused`` cannot be changed."""

    def __init__(self, refused: str = "") -> None:
        tuner = "optimization.tuner."
        self.values: dict[str, object] = {
            **make_setting(batch_size=4),
            MIN_BATCH_SIZE: 1,
            f"{tuner}tuning_interval_seconds": 15,
            f"{tuner}observation_window_seconds": 60,
            f"{tuner}enable_batch_size_tuning": True,
            f"{tuner}enable_timeout_tuning": True,
            f"{tuner}enable_cache_size_tuning": True,
        }
        self.refused = refused
        self.is_away = False
        self.changed: list[tuple[dict[str, object], str, str]] = []

    def read(self) -> Mapping[str, object]:
        return dict(self.values)

    async def change(
        self, values: Mapping[str, object], *, source: str, reason: str = ""
    ) -> tuple[object, ...]:
        if self.is_away:
            raise ModelUnavailableError("The worker does not answer.", retry_after_s=1)
        if self.refused in values:
            raise InvalidValueError("The engine openvino cannot change it.", param=self.refused)
        self.values.update(values)
        self.changed.append((dict(values), source, reason))
        return tuple(values)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_tuner(
    options: Options, observer: Recorder, clock: Clock, path: Path, target_p95_ms: float | None
) -> Tuner:
    return Tuner(
        options,
        observer=observer,
        kept=FileMemory(path),
        target_p95_ms=target_p95_ms,
        clock=clock,
        now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
    )


def busy_window(tuner: Tuner, clock: Clock, batch_size: int) -> None:
    """State what an engine that is full, and faster with larger batches, would."""
    observe = tuner.observer_of_path.observe
    observe(LoadChanged(model="m", num_running=batch_size, num_waiting=10))
    for _ in range(30):
        observe(step(batch_size))
        observe(TokenGap(model="m", engine="e", seconds_per_token=0.5, num_tokens=batch_size))
    for _ in range(batch_size * 5):
        observe(end(RequestStatus.SUCCESS))
    clock.now_s += WINDOW_S


def step(batch_size: int) -> StepCompleted:
    return StepCompleted(
        model="m", engine="e", phase="decode", batch_size=batch_size, duration_s=0.5
    )


def end(status: RequestStatus, total_s: float = 3.0) -> RequestFinished:
    return RequestFinished(
        request_id="r",
        model="m",
        engine="e",
        status=status,
        total_s=total_s,
        queue_wait_s=1.0,
        ttft_s=1.5,
        num_prompt_tokens=40,
        num_cached_tokens=10,
    )


async def decide(tuner: Tuner, options: Options, clock: Clock, num_windows: int) -> None:
    for _ in range(num_windows):
        busy_window(tuner, clock, int(str(options.values[BATCH_SIZE])))
        await tuner.decide()


async def test_what_helps_is_kept_logged_counted_and_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)

    with caplog.at_level(logging.INFO, "mm_orch.tuning"):
        await decide(tuner, options, clock, 8)

    assert options.values[BATCH_SIZE] == 16
    assert {source for _, source, _ in options.changed} == {"tuner"}
    assert "the batch is full" in options.changed[0][2]
    [trying, kept, *_] = reversed(tuner.report().decisions)
    assert (trying.kind, trying.new_values) == ("try", {BATCH_SIZE: 8})
    assert trying.before is not None
    assert (kept.kind, kept.direction) == ("keep", "none")
    assert kept.before is not None
    assert kept.after is not None
    assert kept.after.tokens_per_second > 1.5 * kept.before.tokens_per_second
    assert kept.at == "2026-01-02T00:00:00+00:00"
    assert "keep max_batch_size" in caplog.text
    assert "tokens/s" in caplog.text
    assert (tmp_path / "tuner.json").exists()
    assert tuner.report().values[BATCH_SIZE] == 16


async def test_what_came_of_a_guards_step_is_put_in_its_place_logged_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    options.values |= make_setting(batch_size=4, queue_capacity=1000)
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", 8000.0)
    await decide(tuner, options, clock, 1)
    [step] = tuner.report().decisions
    assert (step.kind, step.parameter, step.after) == ("guard", "queue_capacity", None)
    assert not observer.of(GuardStepTold)

    with caplog.at_level(logging.INFO, "mm_orch.tuning"):
        await decide(tuner, options, clock, 2)

    told = tuner.report().decisions[-1]
    assert (told.at, told.kind, told.new_values) == (step.at, step.kind, step.new_values)
    assert told.before == step.before
    assert told.after is not None
    assert told.after.num_windows == 1
    assert told.rationale == f"{step.rationale}; since then p95 is 3.0 s, within the target"
    assert "what came of guard queue_capacity 1000 -> " in caplog.text
    assert "[after: " in caplog.text
    assert observer.of(GuardStepTold) == [GuardStepTold(parameter="queue_capacity", is_kept=True)]


async def test_a_report_has_as_many_decisions_as_are_asked_for_the_newest_first(
    tmp_path: Path,
) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)
    await decide(tuner, options, clock, 8)

    report = tuner.report()

    assert len(report.decisions) > 1
    assert tuner.report(max_decisions=1).decisions == report.decisions[:1]
    assert tuner.report(max_decisions=0).decisions == ()


async def test_what_is_on_trial_is_told_with_the_value_to_go_back_to(tmp_path: Path) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)
    assert tuner.report().on_trial == {}

    await decide(tuner, options, clock, 4)

    report = tuner.report()
    assert report.decisions[0].kind == "try"
    assert (report.on_trial, report.values[BATCH_SIZE]) == ({BATCH_SIZE: 4}, 8)


async def test_another_observed_time_counts_from_the_next_window_on(tmp_path: Path) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)
    assert (tuner.report().window_seconds, tuner.report().max_windows) == (15, 8)

    options.values["optimization.tuner.observation_window_seconds"] = 300
    await tuner.decide()

    assert tuner.report().max_windows == 20


async def test_each_decision_reaches_the_metrics(tmp_path: Path) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)
    metrics = PrometheusObserver(["m"])
    assert b"auto_tuning" not in metrics.render()[0]

    await decide(tuner, options, clock, 4)
    for event in observer.events:
        metrics.observe(event)
    metrics.observe(TuningDecided(parameter="max_batch_size", direction="down", is_rollback=True))
    metrics.observe(GuardStepTold(parameter="several", is_kept=False))
    page = metrics.render()[0].decode()

    name = "auto_tuning_decisions_total"
    assert f'{name}{{direction="up",parameter="max_batch_size"}} 1.0' in page
    assert 'auto_tuning_rollbacks_total{direction="down",parameter="max_batch_size"} 1.0' in page
    assert 'auto_tuning_guard_steps_total{p95="over",parameter="several"} 1.0' in page
    assert 'auto_tuning_guard_steps_total{p95="within",parameter="queue_capacity"} 0.0' in page
    assert "auto_tuning_batch_size 8.0" in page
    assert "auto_tuning_batch_timeout_ms 50.0" in page
    assert "auto_tuning_cache_size_mb 1024.0" in page


async def test_a_refused_option_is_told_of_and_left_alone(tmp_path: Path) -> None:
    options, observer, clock = Options(refused=BATCH_SIZE), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)

    await decide(tuner, options, clock, 6)

    report = tuner.report()
    assert report.left_alone == (BATCH_SIZE,)
    assert options.values[BATCH_SIZE] == 4
    refused = [one for one in report.decisions if one.kind == "refused"]
    assert len(refused) == 1
    assert "openvino cannot" in refused[0].rationale


async def test_an_option_is_tried_again_when_the_worker_that_was_away_is_back(
    tmp_path: Path,
) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    options.is_away = True
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)
    await decide(tuner, options, clock, 6)
    assert any(one.kind == "refused" for one in tuner.report().decisions)
    assert tuner.report().left_alone == ()
    assert not options.changed

    options.is_away = False
    await decide(tuner, options, clock, 6)

    assert options.changed
    assert tuner.report().left_alone == ()


async def test_a_switch_turned_off_during_a_trial_leaves_the_value_that_is_tried(
    tmp_path: Path,
) -> None:
    options, clock = Options(), Clock()
    tuner = make_tuner(options, Recorder(), clock, tmp_path / "tuner.json", None)
    await decide(tuner, options, clock, 4)
    assert set(tuner.report().on_trial) == {BATCH_SIZE}
    tried = options.values[BATCH_SIZE]
    options.values["optimization.tuner.enable_batch_size_tuning"] = False

    for _ in range(4):
        # Slower than before: it would be taken back.
        busy_window(tuner, clock, 1)
        await tuner.decide()

    assert options.values[BATCH_SIZE] == tried
    assert BATCH_SIZE not in tuner.report().on_trial


async def test_a_switch_that_is_off_leaves_its_options_alone(tmp_path: Path) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    for switch in ("batch_size", "timeout", "cache_size"):
        options.values[f"optimization.tuner.enable_{switch}_tuning"] = False
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", 10.0)

    await decide(tuner, options, clock, 8)

    assert not options.changed
    assert tuner.report().switched_off == tuple(sorted(KNOBS))


async def test_a_fault_is_told_of_and_the_next_window_is_read(tmp_path: Path) -> None:
    options, observer, clock = Options(), Recorder(), Clock()
    tuner = make_tuner(options, observer, clock, tmp_path / "tuner.json", None)
    pauses = 0

    async def pause(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 1:
            options.values[BATCH_SIZE] = "many"
        elif pauses == 2:
            options.values[BATCH_SIZE] = 4
        else:
            raise asyncio.CancelledError

    tuner._pause = pause
    with pytest.raises(asyncio.CancelledError):
        await tuner.run()

    assert ErrorOccurred(component="tuner", error_type="TypeError") in observer.events
    assert any(isinstance(event, TunedValuesRead) for event in observer.events)


async def test_a_memory_that_cannot_be_read_is_started_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tuner.json"
    path.write_text('{"version": 99}')

    make_tuner(Options(), Recorder(), Clock(), path, None)

    assert "starting anew" in caplog.text
    assert "version 99" in caplog.text


def test_a_window_tells_what_its_events_did() -> None:
    clock = Clock()
    reader = WindowReader(clock)
    events: list[Event] = [
        LoadChanged(model="m", num_running=2, num_waiting=1),
        step(4),
        TokenGap(model="m", engine="e", seconds_per_token=0.1, num_tokens=8),
        FirstTokenProduced(request_id="r", model="m", engine="e", ttft_s=1.5),
        end(RequestStatus.SUCCESS),
        end(RequestStatus.ERROR),
        end(RequestStatus.REJECTED),
        CacheUsed(model="m", engine="e", use_ratio=0.7),
        ResourcesRead(cpu_percent=5.0, memory_used_bytes=25, memory_total_bytes=100),
    ]
    for event in events:
        reader.observe(event)
    clock.now_s = 10.0

    reading = reader.read()

    assert (reading.num_succeeded, reading.num_failed, reading.num_rejected) == (1, 1, 1)
    assert reading.num_arrived == 6
    assert reading.tokens_per_s == 0.9
    assert (reading.num_running, reading.num_waiting) == (2.0, 1.0)
    assert reading.latency_p95_s == pytest.approx(3.0, rel=0.01)
    assert reading.service_p95_s == pytest.approx(2.0, rel=0.01)
    assert reading.queue_wait_p95_s == pytest.approx(1.0, rel=0.01)
    assert (reading.batch_size_mean, reading.step_s, reading.busy_ratio) == (4.0, 0.5, 0.05)
    assert reading.cache_hit_ratio == 0.25
    assert (reading.kv_use_ratio, reading.memory_use_ratio) == (0.7, 0.25)

    clock.now_s = 20.0
    later = reader.read()

    # Three are still there, and nothing else happened.
    assert (later.num_arrived, later.num_succeeded, later.tokens_per_s) == (0, 0, 0.0)
    assert (later.num_running, later.num_waiting) == (2.0, 1.0)


def test_every_option_that_is_tuned_has_its_series_from_the_beginning() -> None:
    assert set(TUNED_OPTIONS) == {knob.name for knob in KNOBS.values()}
    assert set(GUARDED_OPTIONS) == {KNOBS[BATCH_SIZE].name, KNOBS[QUEUE_CAPACITY].name, SEVERAL}
