"""Writes the decoder of the Llama family as an ONNX graph over blocks of keys and values.

The new tokens of a run stand in rows [num_parts, num_rows], and each part attends to its own list
of slots: as many parts of one row as sequences decode, or one part of many rows for prompts. What
of the slots a row may see, the mask says; so the graph knows nothing of sequences.

    residual --norm--> qkv --rotate, scatter into slots, gather key_slots, attend--> o --> +
             --norm--> gate, up --silu * --> down --> + ...

Keys and values of all sequences are inputs and outputs [num_slots, kv_width] of every layer, which
are bound to the same memory: the runtime then writes the new slots in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import TensorProto

from mm_orch.optimization.engines.onnx.linear import write_linear
from mm_orch.optimization.engines.onnx.shape import DecoderShape
from mm_orch.optimization.engines.pytorch.llama import find_window

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.onnx.formats import WeightFormat
    from mm_orch.optimization.engines.onnx.graph import GraphWriter


def read_shape(model: Any) -> DecoderShape:
    """Return the shape of a model that transformers has loaded and ``is_llama_like``."""
    config = model.config
    attentions = [layer.self_attn for layer in model.model.layers]
    windows = [find_window(attention, config) for attention in attentions]
    return DecoderShape(
        num_layers=len(attentions),
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=attentions[0].head_dim,
        vocab_size=config.vocab_size,
        window=next((window for window in windows if window is not None), None),
        windowed_layers=tuple(window is not None for window in windows),
    )


class DecoderWriter:
    """Writes one model's graph.

    Args:
        model: loaded by transformers in fp32; only read.
        writer: takes nodes and weights.
        weight_format: of the linear layers.
        num_positions: positions that may occur.
    """

    def __init__(
        self, model: Any, writer: GraphWriter, weight_format: WeightFormat, *, num_positions: int
    ) -> None:
        self._model = model
        self._shape = read_shape(model)
        self._writer = writer
        self._format = weight_format
        self._num_positions = num_positions
        self._norm = {"epsilon": model.config.rms_norm_eps, "axis": -1}

    def write(self) -> DecoderShape:
        """Write the whole graph and return the decoder's shape."""
        writer, body = self._writer, self._model.model
        rows = ["num_parts", "num_rows"]
        writer.add_input("token_ids", TensorProto.INT64, rows)
        writer.add_input("positions", TensorProto.INT64, rows)
        writer.add_input("slots", TensorProto.INT64, [*rows, 1])
        writer.add_input("key_slots", TensorProto.INT64, ["num_parts", "num_keys"])
        for mask in ["mask"] if self._shape.window is None else ["mask", "window_mask"]:
            writer.add_input(mask, TensorProto.FLOAT, ["num_parts", 1, "num_rows", "num_keys"])
        writer.add_input("wanted_rows", TensorProto.INT64, ["num_wanted"])
        self._write_rotations()
        residual, update = self._write_embedding(), ""
        for index, layer in enumerate(body.layers):
            residual, update = self._write_layer(index, layer, residual, update)
        self._write_head(residual, update)
        return self._shape

    def _write_embedding(self) -> str:
        writer, weight = self._writer, _read(self._model.model.embed_tokens.weight)
        if self._format.bits is None:
            writer.add_weight("embedding", weight)
            return writer.add_node("Gather", ["embedding", "token_ids"], "embedded")
        # Beside quantised layers 16 bits lose nothing that counts.
        writer.add_weight("embedding", weight.astype(np.float16))
        writer.add_node("Gather", ["embedding", "token_ids"], "embedded.half")
        return writer.add_node("Cast", ["embedded.half"], "embedded", to=TensorProto.FLOAT)

    def _write_rotations(self) -> None:
        body = self._model.model
        positions = torch.arange(self._num_positions)
        with torch.inference_mode():
            tables = body.rotary_emb(torch.zeros(1), positions[None])
        for name, table in zip(("cos", "sin"), tables, strict=True):
            # Both halves of a head turn by the same angles.
            self._writer.add_weight(name, _read(table[0, :, : table.shape[-1] // 2]))

    def _write_layer(self, index: int, layer: Any, residual: str, update: str) -> tuple[str, str]:
        """Write one layer; return the names of its residual and of what is to be added to it."""
        name = f"layer{index}"
        residual, normal = self._write_norm(
            f"{name}.input_norm", layer.input_layernorm, residual, update
        )
        attended = self._write_attention(index, layer.self_attn, normal)
        residual, normal = self._write_norm(
            f"{name}.mlp_norm", layer.post_attention_layernorm, residual, attended
        )
        writer, mlp = self._writer, layer.mlp
        gate_up = self._write_linears(f"{name}.gate_up", normal, mlp.gate_proj, mlp.up_proj)
        gate, up = f"{name}.gate", f"{name}.up"
        writer.add_node("Split", [gate_up], [gate, up], axis=-1, num_outputs=2)
        # With a factor of 1 it is x * sigmoid(x).
        silu = writer.add_node("com.microsoft:QuickGelu", [gate], f"{name}.silu", alpha=1.0)
        product = writer.add_node("Mul", [silu, up], f"{name}.gated")
        return residual, self._write_linears(f"{name}.down", product, mlp.down_proj)

    def _write_attention(self, index: int, attention: Any, normal: str) -> str:
        writer, shape, name = self._writer, self._shape, f"layer{index}"
        qkv = self._write_linears(
            f"{name}.qkv", normal, attention.q_proj, attention.k_proj, attention.v_proj
        )
        widths = [shape.num_heads * shape.head_dim, shape.kv_width, shape.kv_width]
        query, key, value = f"{name}.query", f"{name}.key", f"{name}.value"
        writer.add_node("Split", [qkv, self._constant(widths)], [query, key, value], axis=-1)
        if hasattr(attention, "q_norm"):
            query = self._write_head_norm(query, attention.q_norm, shape.num_heads)
            key = self._write_head_norm(key, attention.k_norm, shape.num_kv_heads)
        query = self._write_rotation(query, shape.num_heads)
        key = self._write_rotation(key, shape.num_kv_heads)
        gathered = [
            self._write_memory(f"{kind}.{index}", new)
            for kind, new in (("keys", key), ("values", value))
        ]
        mask = "window_mask" if shape.windowed_layers[index] else "mask"
        attended = writer.add_node(
            "Attention",
            [query, *gathered, mask],
            f"{name}.attended",
            q_num_heads=shape.num_heads,
            kv_num_heads=shape.num_kv_heads,
            scale=attention.scaling,
        )
        return self._write_linears(f"{name}.o", attended, attention.o_proj)

    def _write_memory(self, memory: str, new: str) -> str:
        """Write the new rows into their slots; return [num_parts, num_keys, kv_width] of all."""
        writer = self._writer
        dims: list[int | str] = ["num_slots", self._shape.kv_width]
        writer.add_input(memory, TensorProto.FLOAT, dims)
        stored = writer.add_node("ScatterND", [memory, "slots", new], f"new_{memory}")
        writer.add_output(stored, dims)
        return writer.add_node("Gather", [stored, "key_slots"], f"gathered_{memory}")

    def _write_rotation(self, heads: str, num_heads: int) -> str:
        return self._writer.add_node(
            "com.microsoft:RotaryEmbedding",
            [heads, "positions", "cos", "sin"],
            f"{heads}.rotated",
            num_heads=num_heads,
        )

    def _write_head_norm(self, heads: str, norm: Any, num_heads: int) -> str:
        """Norm each head by itself, as Qwen3 does before the rotation."""
        writer = self._writer
        apart = self._constant([0, 0, num_heads, self._shape.head_dim])
        together = self._constant([0, 0, num_heads * self._shape.head_dim])
        single = writer.add_node("Reshape", [heads, apart], f"{heads}.heads")
        weight = writer.add_weight(f"{heads}.norm", _read(norm.weight))
        normal = writer.add_node(
            "RMSNormalization", [single, weight], f"{heads}.normal", **self._norm
        )
        return writer.add_node("Reshape", [normal, together], f"{heads}.normal_row")

    def _write_norm(self, name: str, norm: Any, residual: str, update: str) -> tuple[str, str]:
        """Write ``residual + update`` and its norm; return the names of both."""
        writer = self._writer
        weight = writer.add_weight(f"{name}.weight", _read(norm.weight))
        if not update:
            normal = writer.add_node("RMSNormalization", [residual, weight], name, **self._norm)
            return residual, normal
        writer.add_node(
            "com.microsoft:SkipSimplifiedLayerNormalization",
            [residual, update, weight],
            [name, "", "", f"{name}.residual"],
            epsilon=self._norm["epsilon"],
        )
        return f"{name}.residual", name

    def _write_linears(self, name: str, source: str, *layers: Any) -> str:
        """Write layers that share their input as one."""
        weight = np.concatenate([_read(layer.weight) for layer in layers])
        has_bias = any(layer.bias is not None for layer in layers)
        bias = None
        if has_bias:
            bias = np.concatenate(
                [
                    np.zeros(len(layer.weight), np.float32)
                    if layer.bias is None
                    else _read(layer.bias)
                    for layer in layers
                ]
            )
        return write_linear(self._writer, name, source, weight, bias=bias, bits=self._format.bits)

    def _write_head(self, residual: str, update: str) -> None:
        """Write the logits of the wanted rows, [num_wanted, vocab_size]."""
        writer, head = self._writer, self._model.lm_head
        _, normal = self._write_norm("norm", self._model.model.norm, residual, update)
        flat = self._constant([-1, self._model.config.hidden_size])
        rows = writer.add_node("Reshape", [normal, flat], "rows")
        wanted = writer.add_node("Gather", [rows, "wanted_rows"], "wanted")
        if self._format.head_bits is None:
            is_tied = head.weight is self._model.model.embed_tokens.weight
            inputs = [wanted]
            inputs.append("embedding" if is_tied else writer.add_weight("head", _read(head.weight)))
            if head.bias is not None:
                inputs.append(writer.add_weight("head.bias", _read(head.bias)))
            logits = writer.add_node("Gemm", inputs, "logits", transB=1)
        else:
            product = write_linear(
                writer,
                "head",
                wanted,
                _read(head.weight),
                bias=None if head.bias is None else _read(head.bias),
                bits=self._format.head_bits,
            )
            logits = writer.add_node("Identity", [product], "logits")
        writer.add_output(logits, ["num_wanted", self._shape.vocab_size])

    def _constant(self, numbers: list[int]) -> str:
        name = "shape_" + "_".join(map(str, numbers))
        return self._writer.add_constant(name, np.array(numbers, np.int64))


def _read(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().contiguous().numpy()
    return array
