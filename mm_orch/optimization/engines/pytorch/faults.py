"""Says in our own errors what PyTorch could not compute."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError, clause

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translated_faults() -> Iterator[None]:
    """Run a step.

    Raises:
        EngineOutOfMemoryError: device or host memory ran out.
        EngineFailedError: PyTorch refused the step.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise EngineOutOfMemoryError(f"PyTorch ran out of memory: {clause(error)}.") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):
            raise EngineOutOfMemoryError(f"PyTorch ran out of memory: {clause(error)}.") from error
        raise EngineFailedError(f"PyTorch failed in a step: {clause(error)}.") from error
