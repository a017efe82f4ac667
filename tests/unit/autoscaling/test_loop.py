"""The loop: windows in, replicas out, over models in memory."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mm_orch.autoscaling.loop import WINDOW_S, Autoscaler
from mm_orch.autoscaling.meter import Standing
from mm_orch.autoscaling.readings import Goals
from mm_orch.core.events import ErrorOccurred, LoadChanged, RequestStarted
from mm_orch.core.scaling_events import ReplicasScaled, ScaledLoadRead
from mm_orch.core.scaling_report import ScalingReport
from mm_orch.monitoring.prometheus import PrometheusObserver
from mm_orch.optimization.replicas.layout import ReplicaRange
from tests.recorder import Recorder
from tests.unit.monitoring.test_prometheus import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

QUIET_S = 20.0
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Models:
    """One model whose replicas are there as soon as they are wanted."""

    def __init__(self, *, num_wanted: int = 1, obstacle: str = "") -> None:
        self.bounds: dict[str, ReplicaRange] = {"m": ReplicaRange(1, 3)}
        self.num_wanted = num_wanted
        self.obstacle = obstacle
        self.is_loaded = True
        self.is_broken = False

    def ranges(self) -> Mapping[str, ReplicaRange]:
        if self.is_broken:
            raise RuntimeError("no ranges")
        return self.bounds

    def look(self, model: str) -> Standing | None:
        assert model == "m"
        if not self.is_loaded:
            return None
        return Standing(
            serving=tuple(range(self.num_wanted)),
            num_wanted=self.num_wanted,
            num_places=8,
            num_queued_tokens=0,
            num_computed_by_worker={},
        )

    async def find_obstacle(self, model: str) -> str:
        assert model == "m"
        return self.obstacle

    def scale(self, model: str, count: int) -> None:
        assert model == "m"
        self.num_wanted = count


class Scene:
    def __init__(self, models: Models) -> None:
        self.models = models
        self.recorder = Recorder()
        self.now_s = 0.0
        self.autoscaler = Autoscaler(
            models,
            read_goals=lambda: Goals(target_wait_s=1.0, quiet_s=QUIET_S),
            observer=self.recorder,
            clock=lambda: self.now_s,
            now=lambda: NOON,
        )

    async def windows(self, count: int, *, num_waiting: int = 0) -> None:
        observe = self.autoscaler.observer_of_path.observe
        for _ in range(count):
            observe(LoadChanged(model="m", num_running=2, num_waiting=num_waiting))
            observe(RequestStarted(request_id="r", model="m", engine="e", queue_wait_s=1.0))
            self.now_s += WINDOW_S
            await self.autoscaler.decide()

    def report(self) -> ScalingReport:
        report = self.autoscaler.report("m")
        assert report is not None
        return report

    @property
    def moves(self) -> list[tuple[str, int]]:
        return [(one.direction, one.count) for one in self.recorder.of(ReplicasScaled)]


async def test_replicas_follow_the_load_and_it_is_said_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(Models())
    assert scene.report() == ScalingReport(least=1, most=3)
    await scene.windows(3, num_waiting=5)
    assert scene.models.num_wanted == 2
    told = scene.report()
    assert (told.direction, told.count, told.at) == ("up", 2, "2026-01-02T12:00:00+00:00")
    assert told.rationale.startswith("5.0 requests wait 10.0 s each")
    assert f"autoscaler: m is to have 2 replicas (up): {told.rationale}" in caplog.text

    await scene.windows(int(QUIET_S / WINDOW_S) + 2)
    assert scene.models.num_wanted == 1
    assert scene.moves == [("up", 2), ("down", 1)]
    assert scene.report().rationale.startswith("for 20 s no more were needed")


async def test_where_no_more_fit_it_is_held_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    scene = Scene(Models(obstacle="another replica takes 500 MiB, and 3 are free"))
    await scene.windows(8, num_waiting=5)

    assert scene.models.num_wanted == 1
    assert scene.moves == [("held", 1)]
    assert caplog.text.count("are free") == 1
    assert scene.report().rationale.startswith("2 are needed and another replica takes 500 MiB")
    scene.models.obstacle = ""
    await scene.windows(2, num_waiting=5)
    assert scene.models.num_wanted == 2


async def test_a_model_that_has_left_begins_anew() -> None:
    scene = Scene(Models())
    await scene.windows(3, num_waiting=5)
    scene.models.is_loaded = False
    await scene.windows(1)
    assert scene.report() == ScalingReport(least=1, most=3)
    scene.models.bounds = {}
    await scene.windows(1)
    assert scene.autoscaler.report("m") is None


async def test_the_metrics_count_decisions_and_tell_what_is_wanted() -> None:
    scene = Scene(Models())
    observer = PrometheusObserver(["m"])
    await scene.windows(3, num_waiting=5)
    for event in scene.recorder.events:
        observer.observe(event)

    assert value_of(observer, "autoscaling_decisions_total", model="m", direction="up") == 1
    assert value_of(observer, "autoscaling_decisions_total", model="m", direction="held") == 0
    assert value_of(observer, "autoscaling_wanted_replicas", model="m") == 2
    assert value_of(observer, "autoscaling_wait_seconds", model="m") == 10
    assert len(scene.recorder.of(ScaledLoadRead)) == 3


async def test_a_fault_is_told_and_the_next_window_decides() -> None:
    models = Models()
    scene = Scene(models)
    models.is_broken = True
    num_pauses = 0

    async def pause(_: float) -> None:
        nonlocal num_pauses
        num_pauses += 1
        models.is_broken = num_pauses == 1
        if num_pauses == 3:
            raise asyncio.CancelledError

    scene.autoscaler._pause = pause
    with pytest.raises(asyncio.CancelledError):
        await scene.autoscaler.run()
    assert [one.component for one in scene.recorder.of(ErrorOccurred)] == ["autoscaler"]
    assert len(scene.recorder.of(ScaledLoadRead)) == 1
