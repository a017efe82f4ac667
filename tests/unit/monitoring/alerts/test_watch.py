from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mm_orch.core.events import AlertChanged, ErrorOccurred
from mm_orch.monitoring.alerts.alert import Notice, Status
from mm_orch.monitoring.alerts.baseline import Baselines
from mm_orch.monitoring.alerts.book import NUM_CLEAR, AlertBook
from mm_orch.monitoring.alerts.delivery import Delivery
from mm_orch.monitoring.alerts.destinations import LogDestination
from mm_orch.monitoring.alerts.figures import Figures, MemoryFigures, ModelFigures, QueueFigures
from mm_orch.monitoring.alerts.thresholds import Thresholds
from mm_orch.monitoring.alerts.watch import AlertWatch
from tests.recorder import Recorder
from tests.unit.monitoring.alerts.alerts import AT, at
from tests.unit.monitoring.alerts.background import running
from tests.unit.monitoring.clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

INTERVAL_S = 10.0
LIMITS = Thresholds(
    latency_threshold_ms=1000,
    error_rate_threshold=0.05,
    memory_threshold_percent=90,
    throughput_threshold_rps=1.0,
)
QUIET = Figures(
    models=(ModelFigures(model="m", engine="e"),),
    queues=(QueueFigures(model="m"),),
    memory=(MemoryFigures(place="host", used_ratio=0.5),),
)
FULL = Figures(memory=(MemoryFigures(place="host", used_ratio=0.93),))
FULLER = Figures(memory=(MemoryFigures(place="host", used_ratio=0.97),))


class Kept(LogDestination):
    """A destination that keeps what it is sent."""

    name = "kept"

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    async def send(self, notices: Sequence[Notice]) -> None:
        self.notices += notices


class EndOfScriptError(Exception):
    pass


class Scene:
    """A watch that evaluates figure after figure on a clock that its pauses move."""

    def __init__(self, figures: Sequence[Figures | Exception], limits: Thresholds = LIMITS) -> None:
        self.clock = StillClock()
        self.observer = Recorder()
        self.kept = Kept()
        self._figures = iter(figures)
        self._num_left = len(figures)
        self._has_ended = asyncio.Event()
        self.watch = AlertWatch(
            self._read,
            thresholds=limits,
            baselines=Baselines(),
            book=AlertBook(rate_limit_s=300),
            delivery=Delivery([self.kept], observer=self.observer, clock=self.clock),
            interval_s=INTERVAL_S,
            observer=self.observer,
            clock=self.clock,
            now=self._now,
            pause=self._pause,
        )

    async def play(self) -> None:
        async with asyncio.timeout(60), running(self.watch.run()):
            await self._has_ended.wait()

    def _read(self) -> Figures:
        self._num_left -= 1
        figures = next(self._figures)
        if isinstance(figures, Exception):
            raise figures
        return figures

    def _now(self) -> datetime:
        return at(self.clock.now_s - StillClock.BEGIN_S)

    async def _pause(self, seconds: float) -> None:
        if not self._num_left:
            self._has_ended.set()
            await asyncio.Event().wait()
        self.clock.now_s += seconds
        await asyncio.sleep(0)


def told(scene: Scene) -> list[tuple[str, str]]:
    return [(one.status.value, one.severity.value) for one in scene.kept.notices]


async def test_an_idle_server_tells_nothing_in_an_hour() -> None:
    scene = Scene([QUIET] * 360)

    await scene.play()

    assert scene.kept.notices == []
    assert scene.observer.events == []
    report = scene.watch.report()
    assert (report.firing, report.history) == ((), ())


async def test_trouble_begins_grows_goes_on_and_ends() -> None:
    scene = Scene([QUIET, FULL, FULL, *[FULLER] * 31, *[QUIET] * NUM_CLEAR])

    await scene.play()

    assert told(scene) == [
        ("firing", "warning"),
        ("firing", "error"),
        ("firing", "error"),
        ("resolved", "error"),
    ]
    events = scene.observer.of(AlertChanged)
    assert [(event.is_firing, event.is_new, event.severity) for event in events] == [
        (True, True, "warning"),
        (True, True, "error"),
        (True, False, "error"),
        (False, False, "error"),
    ]
    assert events[0].alert_type == "high_memory"
    assert scene.kept.notices[-1].starts_at == at(INTERVAL_S)
    history = scene.watch.report().history
    assert [notice.status for notice in history] == [Status.RESOLVED, Status.FIRING, Status.FIRING]


async def test_what_fires_now_is_reported() -> None:
    scene = Scene([FULL, FULLER])

    await scene.play()

    [notice] = scene.watch.report().firing
    assert (notice.severity.value, notice.starts_at) == ("error", AT)
    assert [one.name for one in scene.watch.report().destinations] == ["kept"]


async def test_an_evaluation_that_fails_is_counted_and_the_next_one_is_made() -> None:
    scene = Scene([EndOfScriptError(), FULL])

    await scene.play()

    assert told(scene) == [("firing", "warning")]
    assert scene.observer.of(ErrorOccurred) == [
        ErrorOccurred(component="alerts", error_type="EndOfScriptError")
    ]


async def test_a_departure_from_what_is_usual_is_an_anomaly() -> None:
    def of(latency_s: float) -> Figures:
        model = ModelFigures(
            model="m",
            engine="e",
            num_succeeded=50,
            latency_p50_s=latency_s,
            latency_p95_s=2 * latency_s,
        )
        return Figures(models=(model,))

    scene = Scene([*[of(0.1)] * 360, *[of(0.4)] * 12], Thresholds())

    await scene.play()

    [notice] = scene.kept.notices
    assert (notice.identity.alert_type, notice.severity.value) == ("anomaly", "error")
    assert notice.message.endswith("would be usual")
