"""Says in our own errors what transformers could not load, or PyTorch not compute."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from mm_orch.core.errors import (
    EngineFailedError,
    EngineOutOfMemoryError,
    EngineStartError,
    clause,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.optimization.engines.contract import EngineSpec

# What reading files can end with that say anything at all.
UNREADABLE = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    SafetensorError,
)


@contextmanager
def translated_loading(spec: EngineSpec) -> Iterator[None]:
    """Have transformers load a model.

    Raises:
        EngineStartError: it cannot.
    """
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except (*UNREADABLE, StrictDataclassError) as error:
        raise EngineStartError(
            f"{spec.model}: transformers cannot load {spec.directory}: {error}",
            remedy="Check the model's files, or remove and pull it again.",
        ) from error


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
