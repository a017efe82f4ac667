"""Reads tensors out of safetensors files by name, one at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_orch.core.errors import EngineStartError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LENGTH_BYTES = 8
_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class TensorFiles:
    """The tensors of all safetensors files in a directory; nothing is read before it is asked for.

    The format: https://github.com/huggingface/safetensors#format

    Raises:
        EngineStartError: no such file, or one that is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            self._add(path)
        if not self._places:
            raise EngineStartError(f"{directory} holds no .safetensors.")

    @property
    def names(self) -> set[str]:
        """All tensors' names."""
        return set(self._places)

    def read(self, name: str) -> NDArray[np.float32]:
        """Return a tensor in fp32.

        Raises:
            EngineStartError: there is none of this name, or its numbers are of another kind.
        """
        if name not in self._places:
            raise EngineStartError(f"The model's files hold no tensor {name}.")
        path, offset, entry = self._places[name]
        dtype = _DTYPES.get(entry["dtype"])
        if dtype is None:
            raise EngineStartError(
                f"{path}: {name} is of type {entry['dtype']}; OpenVINO takes {', '.join(_DTYPES)}."
            )
        begin, _ = entry["data_offsets"]
        values = np.memmap(
            path, dtype=dtype, mode="r", offset=offset + begin, shape=tuple(entry["shape"])
        )
        if entry["dtype"] == "BF16":
            # The upper half of an fp32 number.
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)

    def _add(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
                entries = json.loads(file.read(length))
        except (OSError, ValueError) as error:
            raise EngineStartError(f"{path} cannot be read: {error}.") from error
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            self._places[name] = (path, _LENGTH_BYTES + length, entry)
