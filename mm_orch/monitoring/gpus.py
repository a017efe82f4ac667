"""What the GPUs use now, as NVIDIA's management library (NVML) tells it."""

from __future__ import annotations

import contextlib
import importlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

from mm_orch.core.events import GpuReading

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# From the package nvidia-ml-py, which is optional and asks for a driver when it is used.
_LIBRARY = "pynvml"


class GpuReader(Protocol):
    """Reads all GPUs of the machine; may block, so it belongs in a thread."""

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU, in the machine's order; never raises."""

    def unhealthy(self) -> tuple[GpuReading, ...]:
        """Return each GPU as one that cannot be read, without asking; at once, in any thread."""

    def close(self) -> None:
        """Give the library back; nothing is read afterwards. May block."""


def find_gpu_reader() -> GpuReader | None:
    """Return a reader of the machine's GPUs, or None without NVML, a driver or a GPU.

    Never raises; may block for seconds, as waking a driver does.
    """
    try:
        return open_nvml(importlib.import_module(_LIBRARY))
    except ImportError:
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

    A GPU that cannot be read is stated as unhealthy with nothing used, under the total that it
    had, and is tried again next time. A figure that a card does not offer is None.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._total_bytes_by_index: dict[int, int] = {}
        self._failing: set[int] = set()
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

    def read(self) -> tuple[GpuReading, ...]:
        """Return one reading a GPU; ``gpu_id`` is its index."""
        if not self._is_open:
            return ()
        return tuple(self._read_one(index) for index in range(self.num_gpus))

    def unhealthy(self) -> tuple[GpuReading, ...]:
        """Return each GPU under the total that it had."""
        return tuple(self._describe_unhealthy(index) for index in range(self.num_gpus))

    def close(self) -> None:
        """Give the library back."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()

    def _read_one(self, index: int) -> GpuReading:
        nvml = self._nvml
        try:
            # Asked for each time: the handle of a GPU that was reset is of no use.
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(device)
            utilization = self._offered(lambda: nvml.nvmlDeviceGetUtilizationRates(device).gpu)
            temperature = self._offered(
                lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
            )
        except Exception as error:  # noqa: BLE001 - boundary: an old driver lacks whole functions
            self._tell(index, error)
            return self._describe_unhealthy(index)
        self._failing.discard(index)
        self._total_bytes_by_index[index] = int(memory.total)
        return GpuReading(
            gpu_id=str(index),
            used_bytes=int(memory.used),
            total_bytes=int(memory.total),
            utilization_percent=utilization,
            temperature_celsius=temperature,
        )

    def _offered(self, ask: Callable[[], float]) -> float | None:
        try:
            return float(ask())
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) in self._not_offered:
                return None
            raise

    def _tell(self, index: int, error: Exception) -> None:
        if index not in self._failing:
            self._failing.add(index)
            logger.warning("GPU %d cannot be read: %s", index, error)

    def _describe_unhealthy(self, index: int) -> GpuReading:
        return GpuReading(
            gpu_id=str(index),
            used_bytes=0,
            total_bytes=self._total_bytes_by_index.get(index, 0),
            is_healthy=False,
        )
