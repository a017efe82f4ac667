"""NVML as ``pynvml`` shows it, for a machine with GPUs that this one does not have."""

from __future__ import annotations

from types import SimpleNamespace


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class FakeNvml:
    """Two GPUs; a test sets what fails. Handles are made anew each time, as after a reset."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_NO_PERMISSION = 4
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_DRIVER_NOT_LOADED = 9

    def __init__(self, num_gpus: int = 2) -> None:
        self.num_gpus = num_gpus
        self.num_starts = 0
        self.error_by_call: dict[tuple[str, int | None], int] = {}

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name, as those below
        self._check("nvmlInit", None)
        self.num_starts += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_starts -= 1
        self._check("nvmlShutdown", None)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        self._check("nvmlDeviceGetCount", None)
        return self.num_gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        self._check("nvmlDeviceGetHandleByIndex", index)
        return SimpleNamespace(index=index)

    def nvmlDeviceGetMemoryInfo(self, device: SimpleNamespace) -> object:  # noqa: N802
        self._check("nvmlDeviceGetMemoryInfo", device.index)
        return SimpleNamespace(total=80 << 30, used=(10 + device.index) << 30, free=1)

    def nvmlDeviceGetUtilizationRates(self, device: SimpleNamespace) -> object:  # noqa: N802
        self._check("nvmlDeviceGetUtilizationRates", device.index)
        return SimpleNamespace(gpu=50 + device.index, memory=1)

    def nvmlDeviceGetTemperature(self, device: SimpleNamespace, sensor: int) -> int:  # noqa: N802
        assert sensor == self.NVML_TEMPERATURE_GPU
        self._check("nvmlDeviceGetTemperature", device.index)
        return 60 + device.index

    def _check(self, call: str, index: int | None) -> None:
        if (call, index) in self.error_by_call:
            raise NVMLError(self.error_by_call[call, index])
