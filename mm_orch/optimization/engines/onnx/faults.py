"""Says in our own errors what ONNX Runtime could not compute."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError
from mm_orch.optimization.engines.onnx.session import RUNTIME_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translated_faults() -> Iterator[None]:
    """Run a graph.

    Raises:
        EngineOutOfMemoryError: device or host memory ran out.
        EngineFailedError: ONNX Runtime refused the batch.
    """
    try:
        yield
    except (*RUNTIME_ERRORS, MemoryError) as error:
        if isinstance(error, MemoryError) or "Failed to allocate memory" in str(error):
            raise EngineOutOfMemoryError(f"ONNX Runtime ran out of memory: {error}") from error
        raise EngineFailedError(f"ONNX Runtime failed in a step: {error}") from error
