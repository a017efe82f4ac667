"""The parts of the policy: steps of options, what is remembered, levels of load, forecasts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.tuning.forecast import forecast
from mm_orch.tuning.kept_memory import FileMemory, load_memory
from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS, MAX_FACTOR
from mm_orch.tuning.load import Load, LoadLevel
from mm_orch.tuning.memory import TuningMemory
from mm_orch.tuning.readings import Reading, StepCosts
from mm_orch.tuning.step_fit import StepFit
from tests.tuning_simulation import make_setting

if TYPE_CHECKING:
    from pathlib import Path


@given(st.sampled_from(sorted(KNOBS)), st.integers(0, 100_000))
def test_a_step_stays_within_bounds_and_a_factor_of_two(key: str, value: int) -> None:
    knob = KNOBS[key]
    above, below = knob.above(value), knob.below(value)

    if above is not None:
        assert value < above <= knob.high
        assert above <= max(1, value * MAX_FACTOR)
    if below is not None:
        assert knob.low <= below < value
        assert below >= value // MAX_FACTOR


@given(
    st.dictionaries(
        st.builds(LoadLevel, st.integers(-9, 20), st.integers(0, 12)),
        st.dictionaries(st.sampled_from(sorted(KNOBS)), st.integers(0, 10_000)),
        max_size=5,
    )
)
def test_what_is_written_is_read_again(settings: dict[LoadLevel, dict[str, int]]) -> None:
    memory = TuningMemory()
    for level, setting in settings.items():
        memory.remember(level, setting)

    again = TuningMemory.decode(memory.encode())

    assert {level: again.find(level) for level in settings} == settings


def test_a_level_with_the_same_rate_is_nearer_than_one_with_as_many_at_a_time() -> None:
    memory = TuningMemory()
    memory.remember(LoadLevel(3, 6), {BATCH_SIZE: 16})
    memory.remember(LoadLevel(1, 5), {BATCH_SIZE: 4})

    assert memory.find(LoadLevel(3, 5)) == {BATCH_SIZE: 16}
    assert memory.find(LoadLevel(0, 5)) == {BATCH_SIZE: 4}
    assert memory.find(LoadLevel(0, 0)) is None
    memory.forget(LoadLevel(3, 5))
    assert memory.find(LoadLevel(3, 6)) is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "levels": 7}']
)
def test_a_file_that_makes_no_sense_is_started_anew_and_that_is_said(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tuner.json"
    path.write_text(content)

    memory = load_memory(path)

    assert memory.encode() == TuningMemory().encode()
    assert "starting anew" in caplog.text


async def test_a_deleted_file_is_no_fault_and_a_saved_one_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "made" / "tuner.json"
    with caplog.at_level(logging.INFO):
        kept = FileMemory(path)
    assert "nothing is remembered yet" in caplog.text
    kept.memory.remember(LoadLevel(1, 2), make_setting())

    await kept.exchange()

    assert load_memory(path).find(LoadLevel(1, 2)) == make_setting()
    assert [one.name for one in path.parent.iterdir()] == ["tuner.json"]


@pytest.mark.parametrize(
    ("now", "is_same"),
    [
        (Load(8.0, 40.0), True),
        # A faster setting, and clients who wait for their answers.
        (Load(16.0, 40.0), True),
        # A slower setting, and clients who do not.
        (Load(8.0, 120.0), True),
        (Load(16.0, 120.0), False),
        (Load(2.0, 4.0), False),
    ],
)
def test_the_load_has_changed_where_rate_and_concurrency_have(now: Load, *, is_same: bool) -> None:
    assert now.is_same(Load(8.0, 40.0)) is is_same


def test_a_fit_finds_the_line_and_nothing_where_sizes_are_equal() -> None:
    fit, level = StepFit(), StepFit()
    for index in range(40):
        fit.add(1 + index % 8, 0.01 + 0.002 * (1 + index % 8))
        level.add(4, 0.018)

    costs = fit.find()

    assert costs is not None
    assert costs.fixed_s == pytest.approx(0.01)
    assert costs.per_sequence_s == pytest.approx(0.002)
    assert level.find() is None


def test_a_full_house_is_slower_for_each_and_faster_for_all() -> None:
    reading = Reading(
        span_s=10.0,
        num_succeeded=20,
        service_p95_s=1.0,
        batch_size_mean=2.0,
        busy_ratio=0.5,
    )
    costs = StepCosts(fixed_s=0.010, per_sequence_s=0.001)

    house = forecast(reading, make_setting(batch_size=32), costs)

    assert house is not None
    # Steps of 42 ms instead of 12, and sixteen times as many sequences in each.
    assert house.service_s == pytest.approx(3.5)
    assert house.requests_per_s == pytest.approx(4.0 * 16 / 3.5)
    assert house.find_queue(5.5) == int(2.0 * 4.0 * 16 / 3.5)
    assert forecast(Reading(span_s=10.0), make_setting(), costs) is None
