"""What of a GPU that still answers says that it must not be used: Xid events, memory errors."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

# A program has caused these, and the GPU is well: https://docs.nvidia.com/deploy/xid-errors
_XIDS_OF_PROGRAMS = frozenset({13, 31, 43, 45, 68, 109})
_MAX_EVENTS_A_POLL = 64


class XidReader:
    """Takes the driver's critical errors (Xid) as NVML hands them out.

    A GPU that had one stays out of use until the server starts again: nothing tells whether it was
    reset in between.
    """

    def __init__(self, nvml: Any, indices: Iterable[int]) -> None:
        self._nvml = nvml
        self._events: Any = None
        self._fault_by_index: dict[int, str] = {}
        self._index_by_uuid: dict[str, int] = {}
        try:
            self._events = nvml.nvmlEventSetCreate()
        except Exception as error:  # noqa: BLE001 - boundary: an old driver lacks whole functions
            logger.info("GPUs are watched without their Xid events: %s", error)
            return
        for index in indices:
            try:
                device = nvml.nvmlDeviceGetHandleByIndex(index)
                self._index_by_uuid[nvml.nvmlDeviceGetUUID(device)] = index
                nvml.nvmlDeviceRegisterEvents(
                    device, nvml.nvmlEventTypeXidCriticalError, self._events
                )
            except Exception as error:  # noqa: BLE001 - as above
                logger.info("GPU %d is watched without its Xid events: %s", index, error)

    def poll(self) -> None:
        """Take what has come since the last call, without waiting."""
        for _ in range(_MAX_EVENTS_A_POLL if self._events is not None else 0):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = self._nvml.nvmlDeviceGetUUID(event.device)
            except Exception:  # noqa: BLE001 - nothing has come; a lost GPU shows when it is read
                return
            index, xid = self._index_by_uuid.get(uuid), int(event.eventData)
            if index is not None and xid not in _XIDS_OF_PROGRAMS:
                self._fault_by_index[index] = f"has reported Xid {xid}"

    def find_fault(self, index: int) -> str:
        """Return what a GPU has reported; empty where nothing."""
        return self._fault_by_index.get(index, "")

    def close(self) -> None:
        """Give the events back."""
        if self._events is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(self._events)


def find_memory_fault(
    nvml: Any, device: Any, offered: Callable[[Callable[[], Any]], Any | None]
) -> str:
    """Return what is wrong with a GPU's memory; empty where nothing is, or it does not tell.

    Errors that could not be corrected count since the driver was loaded: the page that had them is
    replaced when the GPU is reset.

    Args:
        nvml: the library.
        device: the GPU's handle.
        offered: asks for a figure, and gives None where the card does not have it.
    """
    num_errors = offered(
        lambda: nvml.nvmlDeviceGetTotalEccErrors(
            device, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
    )
    if num_errors:
        return f"has had {num_errors} memory errors that could not be corrected"
    rows = offered(lambda: nvml.nvmlDeviceGetRemappedRows(device))
    # Of rows remapped after correctable and other errors, pending, failed: the last counts.
    if rows and rows[3]:
        return "has memory rows that fail and no spare ones left"
    return ""
