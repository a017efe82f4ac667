"""NVML as ``pynvml`` shows it, for machines with GPUs that this one does not have."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING

from mm_orch.core.events import GpuReading

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


@dataclass
class FakeGpu:
    """What a GPU tells; ``bytes_by_pid`` is asked each time, as processes come and go.

    Attributes:
        of_others_bytes: in use by nobody that is told of.
        rows: remapped for two reasons, pending, failed.
    """

    total_bytes: int = 80 * GIB
    of_others_bytes: int = 0
    num_ecc_errors: int = 0
    rows: tuple[int, int, int, int] = (0, 0, 0, 0)
    bytes_by_pid: Callable[[], dict[int, int | None]] = field(default=dict)

    @property
    def used_bytes(self) -> int:
        return self.of_others_bytes + sum(one or 0 for one in self.bytes_by_pid().values())


class FakeNvml:
    """Two GPUs; a test sets what fails. Handles are made anew each time, as after a reset."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
    NVML_VOLATILE_ECC = 0
    nvmlEventTypeXidCriticalError = 8  # noqa: N815 - the library's name, as those below
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_TIMEOUT = 10

    def __init__(self, num_gpus: int = 2, **of_each: int) -> None:
        self.gpus = [FakeGpu(**of_each) for _ in range(num_gpus)]
        self.num_starts = 0
        self.num_event_sets = 0
        self.error_by_call: dict[tuple[str, int | None], int] = {}
        self.xids: deque[tuple[int, int]] = deque()
        self._registered: set[int] = set()

    def lose(self, index: int) -> None:
        """Have a GPU fall off the bus."""
        self.error_by_call["nvmlDeviceGetHandleByIndex", index] = self.NVML_ERROR_GPU_IS_LOST

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("nvmlInit", None)
        self.num_starts += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_starts -= 1
        self._check("nvmlShutdown", None)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("nvmlDeviceGetCount", None)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        self._check("nvmlDeviceGetHandleByIndex", index)
        return SimpleNamespace(index=index)

    def nvmlDeviceGetUUID(self, device: SimpleNamespace) -> str:  # noqa: N802
        return f"GPU-{device.index}a"

    def nvmlDeviceGetMemoryInfo(self, device: SimpleNamespace) -> object:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo", device.index)
        gpu = self.gpus[device.index]
        return SimpleNamespace(total=gpu.total_bytes, used=gpu.used_bytes, free=1)

    def nvmlDeviceGetUtilizationRates(self, device: SimpleNamespace) -> object:  # noqa: N802
        self._check("nvmlDeviceGetUtilizationRates", device.index)
        return SimpleNamespace(gpu=50 + device.index, memory=1)

    def nvmlDeviceGetTemperature(self, device: SimpleNamespace, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        self._check("nvmlDeviceGetTemperature", device.index)
        return 60 + device.index

    def nvmlDeviceGetPowerUsage(self, device: SimpleNamespace) -> int:  # noqa: N802
        self._check("nvmlDeviceGetPowerUsage", device.index)
        return 250_500 + device.index

    def nvmlDeviceGetComputeRunningProcesses(  # noqa: N802
        self, device: SimpleNamespace
    ) -> list[SimpleNamespace]:
        self._check("nvmlDeviceGetComputeRunningProcesses", device.index)
        running = self.gpus[device.index].bytes_by_pid()
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in running.items()]

    def nvmlDeviceGetTotalEccErrors(  # noqa: N802
        self, device: SimpleNamespace, kind: int, counter: int
    ) -> int:
        assert (kind, counter) == (self.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, self.NVML_VOLATILE_ECC)
        self._check("nvmlDeviceGetTotalEccErrors", device.index)
        return self.gpus[device.index].num_ecc_errors

    def nvmlDeviceGetRemappedRows(  # noqa: N802
        self, device: SimpleNamespace
    ) -> tuple[int, int, int, int]:
        self._check("nvmlDeviceGetRemappedRows", device.index)
        return self.gpus[device.index].rows

    def nvmlEventSetCreate(self) -> object:  # noqa: N802
        self._check("nvmlEventSetCreate", None)
        self.num_event_sets += 1
        return SimpleNamespace()

    def nvmlEventSetFree(self, _: object) -> None:  # noqa: N802
        self.num_event_sets -= 1

    def nvmlDeviceRegisterEvents(  # noqa: N802
        self, device: SimpleNamespace, kinds: int, _: object
    ) -> None:
        assert kinds == self.nvmlEventTypeXidCriticalError
        self._check("nvmlDeviceRegisterEvents", device.index)
        self._registered.add(device.index)

    def nvmlEventSetWait_v2(self, _: object, timeout_ms: int) -> object:  # noqa: N802
        assert timeout_ms == 0
        while self.xids:
            index, xid = self.xids.popleft()
            if index in self._registered:
                return SimpleNamespace(device=SimpleNamespace(index=index), eventData=xid)
        raise NVMLError(self.NVML_ERROR_TIMEOUT)

    def _check(self, call: str, index: int | None) -> None:
        if (call, index) in self.error_by_call:
            raise NVMLError(self.error_by_call[call, index])


def well_reading(index: int = 0, used_gib: int = 0) -> GpuReading:
    """Return what is read of a GPU of 80 GiB that is well."""
    return GpuReading(
        gpu_id=str(index),
        uuid=f"GPU-{index}a",
        used_bytes=used_gib * GIB,
        total_bytes=80 * GIB,
        utilization_percent=50 + index,
        temperature_celsius=60 + index,
        power_watts=250.5 + index / 1000,
    )
