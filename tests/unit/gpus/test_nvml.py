from __future__ import annotations

import dataclasses
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.events import GpuReading
from mm_orch.gpus.nvml import GpuReader, find_gpu_reader, open_nvml
from tests.fake_nvml import GIB, FakeNvml, well_reading

if TYPE_CHECKING:
    from pathlib import Path

FIRST, SECOND = well_reading(0), well_reading(1)
LOST = GpuReading(
    gpu_id="1",
    uuid="GPU-1a",
    used_bytes=0,
    total_bytes=80 * GIB,
    fault="cannot be read: error 15",
)


def opened(nvml: FakeNvml) -> GpuReader:
    reader = open_nvml(nvml)
    assert reader is not None
    return reader


def test_each_gpu_is_read() -> None:
    assert opened(FakeNvml()).read() == (FIRST, SECOND)


def test_what_processes_take_is_told_where_the_driver_tells_it() -> None:
    nvml = FakeNvml(num_gpus=1)
    nvml.gpus[0].of_others_bytes = GIB
    nvml.gpus[0].bytes_by_pid = lambda: {7: 3 * GIB, 8: None}

    [reading] = opened(nvml).read()

    assert reading == dataclasses.replace(FIRST, used_bytes=4 * GIB, bytes_by_pid={7: 3 * GIB})


@pytest.mark.parametrize(
    "call",
    [
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetTemperature",
    ],
)
def test_a_gpu_that_fails_is_unhealthy_until_it_can_be_read_again(
    call: str, caplog: pytest.LogCaptureFixture
) -> None:
    nvml = FakeNvml()
    reader = opened(nvml)
    reader.read()

    nvml.error_by_call[call, 1] = nvml.NVML_ERROR_GPU_IS_LOST
    assert reader.read() == (FIRST, LOST)
    assert reader.read() == (FIRST, LOST)
    assert [one.message for one in caplog.records] == ["GPU 1 cannot be read: error 15"]

    nvml.error_by_call.clear()
    assert reader.read() == (FIRST, SECOND)


@pytest.mark.parametrize(
    ("sick", "fault"),
    [
        ({"num_ecc_errors": 2}, "has had 2 memory errors that could not be corrected"),
        ({"rows": (9, 1, 1, 1)}, "has memory rows that fail and no spare ones left"),
        # Rows that were replaced, or will be at the next reset, are no reason to leave it.
        ({"rows": (9, 1, 1, 0)}, ""),
    ],
)
def test_a_gpu_whose_memory_fails_is_sick_though_it_can_be_read(
    sick: dict[str, object], fault: str
) -> None:
    nvml = FakeNvml()
    for name, value in sick.items():
        setattr(nvml.gpus[1], name, value)

    assert opened(nvml).read() == (FIRST, dataclasses.replace(SECOND, fault=fault))


def test_a_gpu_that_reported_an_xid_stays_sick_unless_a_program_was_to_blame() -> None:
    nvml = FakeNvml()
    reader = opened(nvml)
    # A program's own faults.
    nvml.xids += [(0, 13), (0, 31), (1, 43)]
    assert reader.read() == (FIRST, SECOND)

    nvml.xids += [(0, 31), (1, 79)]
    sick = dataclasses.replace(SECOND, fault="has reported Xid 79")
    assert reader.read() == (FIRST, sick)
    assert reader.read() == (FIRST, sick)


@pytest.mark.parametrize("call", [("nvmlEventSetCreate", None), ("nvmlDeviceRegisterEvents", 1)])
def test_a_card_without_xid_events_is_watched_all_the_same(call: tuple[str, int | None]) -> None:
    nvml = FakeNvml()
    nvml.error_by_call[call] = nvml.NVML_ERROR_NOT_SUPPORTED
    reader = opened(nvml)
    nvml.xids.append((1, 79))

    assert reader.read() == (FIRST, SECOND)
    reader.close()
    assert nvml.num_event_sets == 0


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND"])
def test_a_figure_that_a_card_does_not_offer_is_none(error: str) -> None:
    nvml = FakeNvml(num_gpus=1)
    for call in (
        "UtilizationRates",
        "Temperature",
        "PowerUsage",
        "ComputeRunningProcesses",
        "TotalEccErrors",
        "RemappedRows",
    ):
        nvml.error_by_call[f"nvmlDeviceGet{call}", 0] = getattr(nvml, f"NVML_ERROR_{error}")

    assert opened(nvml).read() == (
        dataclasses.replace(
            FIRST, utilization_percent=None, temperature_celsius=None, power_watts=None
        ),
    )


def test_closing_gives_the_library_back_once_and_nothing_is_read_after() -> None:
    nvml = FakeNvml()
    reader = opened(nvml)
    nvml.error_by_call["nvmlShutdown", None] = nvml.NVML_ERROR_GPU_IS_LOST
    reader.close()
    reader.close()

    assert (nvml.num_starts, nvml.num_event_sets) == (0, 0)
    assert reader.read() == ()


def test_a_machine_without_a_driver_has_no_reader(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    nvml = FakeNvml()
    nvml.error_by_call["nvmlInit", None] = nvml.NVML_ERROR_DRIVER_NOT_LOADED

    assert open_nvml(nvml) is None
    assert "no GPU is watched" in caplog.text


def test_a_driver_without_a_gpu_is_closed_again() -> None:
    without = FakeNvml(num_gpus=0)
    failing = FakeNvml()
    failing.error_by_call["nvmlDeviceGetCount", None] = failing.NVML_ERROR_NO_PERMISSION

    for nvml in (without, failing):
        assert open_nvml(nvml) is None
        assert nvml.num_starts == 0


def test_without_the_library_there_is_no_reader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert find_gpu_reader(drivers_list=tmp_path / "none") is None
    assert not caplog.records
    # A driver lists GPUs that nobody can ask for.
    assert find_gpu_reader(drivers_list=tmp_path) is None
    assert "pip install nvidia-ml-py" in caplog.text


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetCount", "NVML_ERROR_NOT_SUPPORTED"])
def test_a_library_that_fails_in_an_odd_way_is_told_and_gives_no_reader(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.delattr(FakeNvml, name)

    assert find_gpu_reader() is None
    [told] = caplog.records
    assert name in told.message


def test_a_function_that_the_driver_lacks_makes_a_gpu_unhealthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = opened(FakeNvml())
    reader.read()
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetMemoryInfo")

    assert [gpu.is_healthy for gpu in reader.read()] == [False, False]
    assert {gpu.total_bytes for gpu in reader.unhealthy("hangs")} == {80 * GIB}


def test_the_library_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())

    reader = find_gpu_reader()
    assert reader is not None
    assert reader.read() == (FIRST, SECOND)
