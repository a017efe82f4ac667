"""How many parameters a model has: read off the headers of its weights, or off its name.

Format of the headers: https://github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm_orch.models.stored import StoredModel

_LENGTH_BYTES = 8
# The largest models' are below 1 MB; the format allows a hundred.
_MAX_HEADER_BYTES = 100_000_000
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)
_UNITS = {"b": 1e9, "m": 1e6}


def count_parameters(stored: StoredModel) -> float | None:
    """Return the number of elements of a stored model's tensors; None where none can be read.

    Tensors that pack several weights into one element count as few.
    """
    directory = Path(stored.directory)
    total = 0
    for name in stored.file_sizes:
        if name.endswith(".safetensors"):
            header = _read_header(directory / name)
            if header is None:
                return None
            total += sum(
                math.prod(tensor["shape"]) for tensor in header.values() if "shape" in tensor
            )
    return float(total) or None


def guess_parameters(*names: str) -> float | None:
    """Return the size that one of a model's names tells, such as ``7b`` or ``135m``, or None."""
    for name in names:
        if (match := _SIZE.search(name)) is not None:
            return float(match.group(1)) * _UNITS[match.group(2).lower()]
    return None


def _read_header(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _MAX_HEADER_BYTES:
                return None
            header = json.loads(file.read(length))
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) else None
