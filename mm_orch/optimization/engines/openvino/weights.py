"""Writes a model's weights into a graph, each matrix in the number format that was chosen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.openvino import formats
from mm_orch.optimization.engines.openvino.constants import (
    integers,
    own,
    pack_4_bits,
    round_to_bf16,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.openvino.formats import QuantizedMatrix
    from mm_orch.optimization.engines.openvino.tensors import TensorFiles

_FLOATS = {"fp32": ov.Type.f32, "fp16": ov.Type.f16, "bf16": ov.Type.bf16}
# The smallest first.
_QUANTIZERS = {"int4": formats.quantize_to_4_bits, "int8": formats.quantize_to_8_bits}


class WeightWriter:
    """Gives a graph its constants.

    Args:
        files: the model's tensors.
        wanted: fp32, fp16, bf16, int8 or int4; auto for the smallest that changes a matrix by no
            more than bf16 does, and ``fallback`` where none does.
        fallback: fp32, fp16 or bf16.
    """

    def __init__(self, files: TensorFiles, wanted: str, fallback: str) -> None:
        self._files = files
        self._wanted = wanted
        self._fallback = fallback
        self._num_by_format: Counter[str] = Counter()
        self._read: set[str] = set()
        # A norm's output goes to several layers: its sums are computed once.
        self._sums: dict[str, Any] = {}

    @property
    def format_name(self) -> str:
        """The format that most of the layers' weights have."""
        return self._num_by_format.most_common(1)[0][0]

    @property
    def unread(self) -> set[str]:
        """Tensors that are in the files and not in the graph."""
        return self._files.names - self._read

    def has(self, name: str) -> bool:
        """Whether the files have this tensor."""
        return name in self._files.names

    def vector(self, name: str) -> NDArray[np.float32]:
        """Return a tensor in fp32, to become a small constant."""
        self._read.add(name)
        return self._files.read(name)

    def embedding(self, name: str) -> Any:
        """Return the graph's node of [vocab_size, hidden_size] in fp32; 4 bits are too few here."""
        matrix = self.vector(name)
        is_small = self._wanted in _QUANTIZERS and formats.can_quantize(matrix)
        quantize = formats.quantize_to_8_bits
        if is_small or (self._wanted == "auto" and formats.is_lossless(matrix, quantize)):
            return _dequantize(quantize(matrix))
        return self._float(matrix)

    def linear(self, names: list[str], x: Any) -> Any:
        """Return ``x`` passed through these layers, whose outputs stand side by side."""
        matrix = np.concatenate([self.vector(f"{name}.weight") for name in names])
        quantized = self._quantize(matrix)
        weight = self._float(matrix) if quantized is None else _dequantize(quantized)
        y = ops.matmul(x, weight, False, True)  # noqa: FBT003 - OpenVINO's order
        if quantized is not None and quantized.rests is not None:
            y = ops.add(y, self._multiply_rests(x, quantized.rests))
        self._num_by_format[self._name_of(quantized)] += matrix.size
        biases = [f"{name}.bias" for name in names]
        if not any(self.has(bias) for bias in biases):
            return y
        return ops.add(y, own(np.concatenate([self.vector(b) for b in biases])[None, None]))

    def _quantize(self, matrix: NDArray[np.float32]) -> QuantizedMatrix | None:
        """Return the matrix in whole numbers where it is to be stored so."""
        if self._wanted in _FLOATS:
            return None
        if not formats.can_quantize(matrix):
            if self._wanted == "auto":
                return None
            raise EngineStartError(
                f"OpenVINO stores {self._wanted} in groups of {formats.GROUP_SIZE}; a layer of this"
                f" model has {matrix.shape[1]} inputs.",
                remedy="Set optimization.openvino.precision and the model's quantization to auto.",
            )
        for name, quantize in _QUANTIZERS.items():
            if self._wanted == name:
                return quantize(matrix)
            if self._wanted == "auto" and formats.is_lossless(matrix, quantize):
                quantized = quantize(matrix)
                if quantized.loss <= formats.LOSSLESS:
                    return quantized
        return None

    def _name_of(self, quantized: QuantizedMatrix | None) -> str:
        if quantized is not None:
            return "int8" if quantized.zeros is None else "int4"
        return self._wanted if self._wanted in _FLOATS else self._fallback

    def _float(self, matrix: NDArray[np.float32]) -> Any:
        kind = _FLOATS[self._wanted if self._wanted in _FLOATS else self._fallback]
        if kind == ov.Type.f32:
            return own(matrix)
        if kind == ov.Type.f16:
            return ops.convert(own(matrix.astype(np.float16)), ov.Type.f32)
        return ops.convert(round_to_bf16(matrix), ov.Type.f32)

    def _multiply_rests(self, x: Any, rests: NDArray[np.float16]) -> Any:
        """Return what the whole-numbered zeros leave out: each group's rest times its inputs' sum.

        OpenVINO's 4-bit products take zeros in whole numbers only. Rounding a file's zeros to
        such, as GenAI's own reader of GGUF files does, costs more than 4 bits do.
        """
        num_groups = rests.shape[1]
        name = x.get_name()
        if name not in self._sums:
            grouped = ops.reshape(
                x, integers(0, 0, num_groups, formats.GROUP_SIZE), special_zero=True
            )
            self._sums[name] = ops.reduce_sum(grouped, integers(3), keep_dims=False)
        weight = ops.convert(own(rests), ov.Type.f32)
        return ops.matmul(self._sums[name], weight, False, True)  # noqa: FBT003


def _dequantize(matrix: QuantizedMatrix) -> Any:
    num_outputs, num_groups, group_size = matrix.values.shape
    if matrix.zeros is None:
        numbers = ops.convert(own(matrix.values), ov.Type.f16)
    else:
        numbers = ops.subtract(
            ops.convert(pack_4_bits(matrix.values), ov.Type.f16),
            ops.convert(pack_4_bits(matrix.zeros[..., None]), ov.Type.f16),
        )
    scaled = ops.multiply(numbers, own(matrix.scales[..., None]))
    flat = ops.reshape(scaled, integers(num_outputs, num_groups * group_size), special_zero=False)
    return ops.convert(flat, ov.Type.f32)
