from __future__ import annotations

import dataclasses
import logging
import sys

import pytest

from mm_orch.core.events import GpuReading
from mm_orch.monitoring.gpus import GpuReader, find_gpu_reader, open_nvml
from tests.unit.monitoring.fake_nvml import FakeNvml

GIB = 1 << 30
FIRST = GpuReading(
    gpu_id="0",
    used_bytes=10 * GIB,
    total_bytes=80 * GIB,
    utilization_percent=50,
    temperature_celsius=60,
)
SECOND = dataclasses.replace(
    FIRST, gpu_id="1", used_bytes=11 * GIB, utilization_percent=51, temperature_celsius=61
)
LOST = dataclasses.replace(
    SECOND, used_bytes=0, utilization_percent=None, temperature_celsius=None, is_healthy=False
)


def opened(nvml: FakeNvml) -> GpuReader:
    reader = open_nvml(nvml)
    assert reader is not None
    return reader


def test_each_gpu_is_read() -> None:
    assert opened(FakeNvml()).read() == (FIRST, SECOND)


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
    assert len(caplog.records) == 1
    assert "GPU 1 cannot be read" in caplog.text

    nvml.error_by_call.clear()
    assert reader.read() == (FIRST, SECOND)


@pytest.mark.parametrize("error", ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND"])
def test_a_figure_that_a_card_does_not_offer_is_none(error: str) -> None:
    nvml = FakeNvml(num_gpus=1)
    for call in ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature"):
        nvml.error_by_call[call, 0] = getattr(nvml, f"NVML_ERROR_{error}")

    [reading] = opened(nvml).read()
    assert reading.is_healthy
    assert (reading.utilization_percent, reading.temperature_celsius) == (None, None)
    assert reading.used_bytes == 10 * GIB


def test_closing_gives_the_library_back_once_and_nothing_is_read_after() -> None:
    nvml = FakeNvml()
    reader = opened(nvml)
    nvml.error_by_call["nvmlShutdown", None] = nvml.NVML_ERROR_GPU_IS_LOST
    reader.close()
    reader.close()

    assert nvml.num_starts == 0
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


def test_without_the_library_there_is_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert find_gpu_reader() is None


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
    assert reader.read() == reader.unhealthy()


def test_the_library_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())

    reader = find_gpu_reader()
    assert reader is not None
    assert reader.read() == (FIRST, SECOND)
