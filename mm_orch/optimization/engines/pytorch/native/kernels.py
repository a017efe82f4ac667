"""A decoder step's operations through the C++ kernels; CPU, fp32 and bf16."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from mm_orch.optimization.engines.pytorch.linear import make_linear
from mm_orch.optimization.engines.pytorch.torch_kernels import attend_segment

if TYPE_CHECKING:
    from mm_orch.optimization.engines.pytorch.kernels import AttentionSpec, Rotation
    from mm_orch.optimization.engines.pytorch.native.quantized import Quantization
    from mm_orch.optimization.engines.pytorch.packed import PackedStep

from mm_orch.optimization.engines.pytorch.native.linear import NativeLinear, can_multiply
from mm_orch.optimization.engines.pytorch.native.quantized import (
    QuantizedLinear,
    TwofoldLinear,
    can_quantize,
)
from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS

_SUFFIXES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
# Sizes of a head that the attention kernel is compiled for; kernels.cpp ends with the same list.
_HEAD_DIMS = {16, 32, 64, 80, 96, 128, 256}


class _RopeShape(ctypes.Structure):
    _fields_ = (
        ("num_rows", ctypes.c_int64),
        ("num_heads", ctypes.c_int64),
        ("num_kv_heads", ctypes.c_int64),
        ("head_dim", ctypes.c_int64),
        ("eps", ctypes.c_float),
    )


class _AttentionShape(ctypes.Structure):
    # Also PromptShape of prompts.cpp.
    _fields_ = (
        ("num_heads", ctypes.c_int64),
        ("num_kv_heads", ctypes.c_int64),
        ("block_tokens", ctypes.c_int64),
        ("query_stride", ctypes.c_int64),
        ("out_stride", ctypes.c_int64),
        ("window", ctypes.c_int64),
        ("scale", ctypes.c_float),
    )


def has_native_kernels(dtype: torch.dtype, head_dim: int) -> bool:
    """Whether there are kernels for this number format and size of an attention head."""
    return dtype in _SUFFIXES and head_dim in _HEAD_DIMS


class NativeKernels:
    """Implements kernels.Kernels.

    Args:
        library: the compiled kernels.
        dtype: fp32 or bf16.
        head_dim: size of an attention head, one that :func:`has_native_kernels` knows.
        quantization: of weights; they are computed in bf16.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        dtype: torch.dtype,
        head_dim: int,
        quantization: Quantization | None = None,
    ) -> None:
        self._library = library
        self._dtype = dtype
        self._quantization = quantization
        # oneDNN multiplies in fp32, and keeps code for each shape.
        self.compiles_shapes = not (dtype == torch.bfloat16 and library.muai_has_linear())
        suffix = _SUFFIXES[dtype]
        pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._add_rms_norm = library[f"muai_add_rms_norm_{suffix}"]
        self._add_rms_norm.argtypes = [*[pointer] * 4, number, number, real]
        self._silu_mul = library[f"muai_silu_mul_{suffix}"]
        self._silu_mul.argtypes = [pointer, pointer, number, number]
        self._rope_store = library[f"muai_rope_store_{suffix}"]
        self._rope_store.argtypes = [pointer] * 9
        self._attend = library[f"muai_attend_decoding_{suffix}_{head_dim}"]
        self._attend.argtypes = [*[pointer] * 8, number, pointer]
        self._attend_prompts = None
        if dtype == torch.bfloat16 and hasattr(library, f"muai_attend_prompts_{head_dim}"):
            self._attend_prompts = library[f"muai_attend_prompts_{head_dim}"]
            self._attend_prompts.argtypes = [*[pointer] * 6, number, pointer]
            self._attend_prompts.restype = None
        for function in (self._add_rms_norm, self._silu_mul, self._rope_store, self._attend):
            function.restype = None

    def make_linear(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, is_head: bool = False
    ) -> torch.nn.Module:
        """See kernels.Kernels."""
        quantization = self._quantization
        if quantization is not None and can_quantize(self._library, weight.shape[1]):
            num_bits = quantization.num_head_bits if is_head else quantization.num_bits
            layer = QuantizedLinear(self._library, weight, bias, num_bits)
            if layer.loss <= quantization.max_loss:
                if quantization.max_rows is None:
                    return layer
                plain = self._make_plain(weight, bias)
                return TwofoldLinear(layer, plain, quantization.max_rows)
        return self._make_plain(weight, bias)

    def _make_plain(self, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Module:
        weight = weight.to(self._dtype)
        bias = None if bias is None else bias.to(self._dtype)
        if can_multiply(self._library, weight):
            return NativeLinear(self._library, weight, bias)
        return make_linear(weight, bias)

    def add_rms_norm(
        self, x: torch.Tensor | None, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """See kernels.Kernels."""
        out = torch.empty_like(residual)
        num_rows, size = residual.shape
        self._add_rms_norm(
            None if x is None else x.data_ptr(),
            residual.data_ptr(),
            weight.data_ptr(),
            out.data_ptr(),
            num_rows,
            size,
            eps,
        )
        return out

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See kernels.Kernels."""
        num_rows, width = gate_up.shape
        out = gate_up.new_empty((num_rows, width // 2))
        self._silu_mul(gate_up.data_ptr(), out.data_ptr(), num_rows, width // 2)
        return out

    def rope_store(
        self,
        qkv: torch.Tensor,
        rotation: Rotation,
        step: PackedStep,
        keys: torch.Tensor,
        values: torch.Tensor,
        spec: AttentionSpec,
    ) -> torch.Tensor:
        """See kernels.Kernels."""
        num_rows = qkv.shape[0]
        shape = _RopeShape(num_rows, spec.num_heads, spec.num_kv_heads, spec.head_dim, rotation.eps)
        self._rope_store(
            qkv.data_ptr(),
            None if rotation.q_norm is None else rotation.q_norm.data_ptr(),
            None if rotation.k_norm is None else rotation.k_norm.data_ptr(),
            rotation.cos.data_ptr(),
            rotation.sin.data_ptr(),
            step.slots.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            ctypes.addressof(shape),
        )
        return qkv.view(num_rows, -1, spec.head_dim)[:, : spec.num_heads]

    def attend(
        self,
        queries: torch.Tensor,
        step: PackedStep,
        keys: torch.Tensor,
        values: torch.Tensor,
        spec: AttentionSpec,
    ) -> torch.Tensor:
        """See kernels.Kernels."""
        num_rows, num_heads, head_dim = queries.shape
        out = queries.new_zeros((num_rows, num_heads, head_dim))
        shape = _AttentionShape(
            num_heads,
            spec.num_kv_heads,
            BLOCK_TOKENS,
            queries.stride(0),
            out.stride(0),
            spec.window or 0,
            head_dim**-0.5 if spec.scale is None else spec.scale,
        )
        if step.prompts and self._attend_prompts is not None:
            prompts = step.prompt_table
            self._attend_prompts(
                queries.data_ptr(),
                keys.data_ptr(),
                values.data_ptr(),
                out.data_ptr(),
                prompts.rows.data_ptr(),
                prompts.block_ids.data_ptr(),
                len(prompts.rows),
                ctypes.addressof(shape),
            )
        else:
            for segment in step.prompts:
                attend_segment(queries, segment, keys, values, spec, out)
        table = step.decoding
        if table is not None:
            self._attend(
                queries.data_ptr(),
                keys.data_ptr(),
                values.data_ptr(),
                out.data_ptr(),
                table.rows.data_ptr(),
                table.num_keys.data_ptr(),
                table.block_starts.data_ptr(),
                table.block_ids.data_ptr(),
                len(table.rows),
                ctypes.addressof(shape),
            )
        return out
