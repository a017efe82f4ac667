"""How the GPUs are now, as NVIDIA's management library (NVML) tells it."""

from __future__ import annotations

import contextlib
import importlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mm_orch.core.events import GpuReading
from mm_orch.gpus.faults import XidReader, find_memory_fault

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

logger = logging.getLogger(__name__)

# From the package nvidia-ml-py, which is optional and asks for a driver when it is used.
_LIBRARY = "pynvml"
_DRIVERS_LIST = Path("/proc/driver/nvidia/gpus")


class GpuReader(Protocol):
    """Reads all GPUs of the machine; may block, so it belongs in a thread."""

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU, in the machine's order; never raises."""

    def unhealthy(self, fault: str) -> tuple[GpuReading, ...]:
        """Return each GPU as one that cannot be read, without asking; at once, in any thread."""

    def close(self) -> None:
        """Give the library back; nothing is read afterwards. May block."""


def find_gpu_reader(*, drivers_list: Path = _DRIVERS_LIST) -> GpuReader | None:
    """Return a reader of the machine's GPUs, or None without NVML, a driver or a GPU.

    Never raises; may block for seconds, as waking a driver does.

    Args:
        drivers_list: where a driver lists its GPUs, whatever else is installed.
    """
    try:
        return open_nvml(importlib.import_module(_LIBRARY))
    except ImportError:
        if drivers_list.is_dir():
            logger.warning(
                "this machine has GPUs, but nvidia-ml-py is not installed: they are not watched,"
                " and models are not placed over them; pip install nvidia-ml-py"
            )
        return None
    except Exception as error:  # noqa: BLE001 - boundary: drivers of every age, none may cost more
        logger.warning("no GPU is watched, NVML fails: %s: %s", type(error).__name__, error)
        return None


def open_nvml(nvml: Any) -> GpuReader | None:
    """Start the library ``pynvml``; None, with a line in the log, where it finds no driver or GPU.

    Args:
        nvml: the module, or what behaves like it.
    """
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        logger.info("no GPU is watched: %s", error)
        return None
    reader = NvmlReader(nvml)
    if reader.num_gpus:
        return reader
    reader.close()
    return None


class NvmlReader:
    """Reads through a library that has been started; :meth:`close` ends it.

    A GPU that cannot be read is stated with its fault and nothing used, under the total that it
    had, and is tried again next time. A figure that a card does not offer is None.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._last_by_index: dict[int, GpuReading] = {}
        self._fault_by_index: dict[int, str] = {}
        self._is_open = True
        # Some cards, the parts of a divided one, old and coming drivers do not tell everything.
        self._not_offered = frozenset(
            {
                nvml.NVML_ERROR_NOT_SUPPORTED,
                nvml.NVML_ERROR_NO_PERMISSION,
                nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            }
        )
        try:
            self.num_gpus = int(nvml.nvmlDeviceGetCount())
        except nvml.NVMLError as error:
            logger.warning("the GPUs cannot be counted: %s", error)
            self.num_gpus = 0
        self._xids = XidReader(nvml, range(self.num_gpus))

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU; ``gpu_id`` is its index."""
        if not self._is_open:
            return ()
        self._xids.poll()
        return tuple(self._read_one(index) for index in range(self.num_gpus))

    def unhealthy(self, fault: str) -> tuple[GpuReading, ...]:
        """Return each GPU under the total that it had."""
        return tuple(self._describe_lost(index, fault) for index in range(self.num_gpus))

    def close(self) -> None:
        """Give the library back."""
        if self._is_open:
            self._is_open = False
            self._xids.close()
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _read_one(self, index: int) -> GpuReading:
        try:
            reading = self._ask(index)
        except Exception as error:  # noqa: BLE001 - boundary: an old driver lacks whole functions
            reading = self._describe_lost(index, f"cannot be read: {error}")
        else:
            self._last_by_index[index] = reading
        self._tell(index, reading.fault)
        return reading

    def _ask(self, index: int) -> GpuReading:
        nvml = self._nvml
        # Asked for each time: the handle of a GPU that was reset is of no use.
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        offered = self._offered
        rates = offered(lambda: nvml.nvmlDeviceGetUtilizationRates(device))
        heat = offered(lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))
        milliwatts = offered(lambda: nvml.nvmlDeviceGetPowerUsage(device))
        processes = offered(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device)) or ()
        return GpuReading(
            gpu_id=str(index),
            uuid=str(nvml.nvmlDeviceGetUUID(device)),
            used_bytes=int(memory.used),
            total_bytes=int(memory.total),
            utilization_percent=None if rates is None else float(rates.gpu),
            temperature_celsius=None if heat is None else float(heat),
            power_watts=None if milliwatts is None else milliwatts / 1000,
            # In a container, and on Windows, NVML may not say what each takes.
            bytes_by_pid={
                int(one.pid): int(one.usedGpuMemory) for one in processes if one.usedGpuMemory
            },
            fault=self._xids.find_fault(index) or find_memory_fault(nvml, device, offered),
        )

    def _offered(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) in self._not_offered:
                return None
            raise

    def _tell(self, index: int, fault: str) -> None:
        before = self._fault_by_index.get(index, "")
        self._fault_by_index[index] = fault
        if fault and fault != before:
            logger.warning("GPU %d %s", index, fault)
        elif before and not fault:
            logger.info("GPU %d is well again", index)

    def _describe_lost(self, index: int, fault: str) -> GpuReading:
        last = self._last_by_index.get(index)
        return GpuReading(
            gpu_id=str(index),
            uuid=last.uuid if last else "",
            used_bytes=0,
            total_bytes=last.total_bytes if last else 0,
            fault=fault,
        )
