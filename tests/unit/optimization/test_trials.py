from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mm_orch.optimization.ladder import EngineLadder
from mm_orch.optimization.trials import EngineTrials, Trial, rank_by_speed, rank_by_start

if TYPE_CHECKING:
    from pathlib import Path

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
