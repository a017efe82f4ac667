from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.place_errors import NoPlaceError
from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.plan import EnginePlan
from mm_orch.optimization.trials import (
    EngineTrials,
    Trial,
    _make_key,
    rank_by_speed,
    rank_by_start,
)
from mm_orch.workers.placement import Placement
from tests.integration.test_supervisor import STORED
from tests.unit.optimization.test_gpu_needs import make_plan

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.workers.worker import Worker

TRIALS = [
    Trial(engine="a", load_s=30.0, tokens_per_s=200.0),
    Trial(engine="b", load_s=2.0, tokens_per_s=100.0),
    Trial(engine="c", reason="it does not want to"),
]


@pytest.mark.parametrize(
    ("engines", "by_speed", "by_start"),
    [
        ("ab", "ab", "ba"),
        ("cba", "abc", "bac"),
        ("cdb", "bdc", "bdc"),
        ("ed", "ed", "ed"),
    ],
)
def test_what_worked_goes_before_what_is_unknown_and_that_before_what_failed(
    engines: str, by_speed: str, by_start: str
) -> None:
    assert rank_by_speed(engines, TRIALS) == list(by_speed)
    assert rank_by_start(engines, TRIALS) == list(by_start)


def test_a_ladder_in_another_order_keeps_what_its_engines_have_done() -> None:
    ladder = EngineLadder("abc", lambda: 0.0)
    ladder.circuit_by_engine["b"].trip("it crashed")

    ladder.order("bca")

    assert list(ladder.circuit_by_engine) == ["b", "c", "a"]
    assert ladder.describe_fallback("c") == ("b", "it crashed")


def test_two_models_that_are_tried_at_the_same_time_are_both_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trials.json"
    both_have_read, read = threading.Barrier(2), EngineTrials._read

    def read_together(trials: EngineTrials) -> dict[str, list[Trial]]:
        found = read(trials)
        # Broken where the second reads when the first has written, as it should.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_have_read.wait(timeout=0.2)
        return found

    monkeypatch.setattr(EngineTrials, "_read", read_together)
    with ThreadPoolExecutor(2) as threads:
        for key in "ab":
            threads.submit(EngineTrials(path, time.monotonic)._remember, key, TRIALS)

    assert json.loads(path.read_bytes()).keys() == {"a", "b"}
    assert list(tmp_path.iterdir()) == [path]


async def test_that_an_engine_found_no_place_is_not_remembered_of_it(tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    plan = make_plan(STORED, EnginePlan(name="a"))
    tried = []

    async def launch(_: str) -> Worker:
        raise NoPlaceError("no node had room")

    with pytest.raises(NoPlaceError):
        await EngineTrials(path, time.monotonic).run(
            plan, STORED, ["a", "b"], launch=launch, note=tried.append
        )

    assert not path.exists()
    # The next would have to wait for the same room.
    assert len(tried) == 1


def test_what_was_tried_here_is_not_known_of_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    stored = msgspec.structs.replace(STORED, directory=str(tmp_path / "model"))
    here = make_plan(stored, EnginePlan(name="a"))
    small, large = (
        replace(here, place=lambda placement=placement: placement)
        for placement in (
            Placement(cluster="", host="", num_cpus=number, num_gpus=0, timeout_s=1)
            for number in (2, 8)
        )
    )
    trials = EngineTrials(tmp_path / "trials.json", time.monotonic)

    trials._remember(_make_key(here, stored), TRIALS)
    trials._remember(_make_key(small, stored), TRIALS[:1])

    assert [len(trials.find(plan, stored)) for plan in (here, small, large)] == [3, 1, 0]
