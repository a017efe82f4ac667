"""Writes a decoder of the Llama family as an OpenVINO model.

The graph keeps its keys and values in OpenVINO's state, as exporters write it: OpenVINO GenAI
turns that into attention over blocks of KV memory when it loads the model. The mask that it
carries is that pass's to replace, so the model is of no use without it.

    input_ids -> embedding -> layer * n -> norm -> output layer -> + LOGIT_SHIFT -> logits
    layer: x + attention(norm(x)), then x + down(silu(gate(norm(x))) * up(norm(x)))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from openvino.op.util import Variable, VariableInfo

from mm_orch.optimization.engines.openvino.constants import integers

if TYPE_CHECKING:
    from mm_orch.optimization.engines.openvino.shape import DecoderShape
    from mm_orch.optimization.engines.openvino.weights import WeightWriter

LOGIT_SHIFT = 128.0
"""Added to every logit, which changes no probability.

GenAI subtracts presence and frequency penalties from logits that are not negative and *adds* them
to negative ones. No logit of a working model is below minus this, so they do what they should; it
costs 17 bits after the point, less than rounding does anyway.
"""

_LAST = 2**63 - 1


def build_decoder(shape: DecoderShape, weights: WeightWriter) -> ov.Model:
    """Return the model; its constants are copies, not views of the files.

    Raises:
        EngineStartError: a tensor is missing.
    """
    graph = _DecoderGraph(shape, weights)
    return graph.build()


class _DecoderGraph:
    """The parts of one graph that its layers share."""

    def __init__(self, shape: DecoderShape, weights: WeightWriter) -> None:
        self._shape = shape
        self._weights = weights
        self._ids = _parameter("input_ids", [-1, -1], ov.Type.i64)
        self._mask = _parameter("attention_mask", [-1, -1], ov.Type.i64)
        self._positions = _parameter("position_ids", [-1, -1], ov.Type.i64)
        self._beams = _parameter("beam_idx", [-1], ov.Type.i32)
        self._batch = ops.gather(ops.shape_of(self._ids), integers(0), integers(0))
        self._cos, self._sin = self._rotary()
        self._sinks: list[Any] = []

    def build(self) -> ov.Model:
        shape, weights = self._shape, self._weights
        table = weights.embedding("model.embed_tokens.weight")
        index = ops.convert(self._ids, ov.Type.i32)
        x = ops.gather(table, index, ops.constant(np.int32(0)))
        for layer in range(shape.num_layers):
            x = self._layer(x, f"model.layers.{layer}.", layer)
        x = self._norm(x, "model.norm.weight")
        head = table if shape.is_tied else weights.embedding("lm_head.weight")
        logits = ops.add(ops.matmul(x, head, False, True), _number(LOGIT_SHIFT, 3))  # noqa: FBT003
        logits.output(0).set_names({"logits"})
        inputs = [self._ids, self._mask, self._positions, self._beams]
        return ov.Model([ops.result(logits)], self._sinks, inputs, "decoder")

    def _layer(self, x: Any, prefix: str, number: int) -> Any:
        shape, weights = self._shape, self._weights
        h = self._norm(x, f"{prefix}input_layernorm.weight")
        x = ops.add(x, self._attention(h, f"{prefix}self_attn.", number))
        h = self._norm(x, f"{prefix}post_attention_layernorm.weight")
        both = weights.linear([f"{prefix}mlp.gate_proj", f"{prefix}mlp.up_proj"], h)
        gate, up = _split(both, [shape.intermediate_size] * 2)
        down = weights.linear([f"{prefix}mlp.down_proj"], ops.multiply(ops.swish(gate), up))
        return ops.add(x, down)

    def _attention(self, x: Any, prefix: str, number: int) -> Any:
        shape = self._shape
        query_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
        projected = self._weights.linear([f"{prefix}{name}_proj" for name in "qkv"], x)
        query, key, value = _split(projected, [query_size, kv_size, kv_size])
        query = self._heads(query, shape.num_heads, f"{prefix}q_norm.weight")
        key = self._heads(key, shape.num_kv_heads, f"{prefix}k_norm.weight")
        value = self._heads(value, shape.num_kv_heads, None)
        attended = ops.scaled_dot_product_attention(
            self._rotate(query),
            self._repeat(self._remember(self._rotate(key), f"{number}.key")),
            self._repeat(self._remember(value, f"{number}.value")),
            self._expand_mask(),
        )
        merged = ops.reshape(
            ops.transpose(attended, integers(0, 2, 1, 3)),
            integers(0, 0, query_size),
            special_zero=True,
        )
        return self._weights.linear([f"{prefix}o_proj"], merged)

    def _heads(self, x: Any, num_heads: int, norm: str | None) -> Any:
        """Return [batch, heads, tokens, head_dim] of [batch, tokens, size], normed where asked."""
        x = ops.reshape(x, integers(0, 0, num_heads, self._shape.head_dim), special_zero=True)
        if norm is not None and self._weights.has(norm):
            x = self._norm(x, norm, rank=4)
        return ops.transpose(x, integers(0, 2, 1, 3))

    def _norm(self, x: Any, name: str, rank: int = 3) -> Any:
        weight = self._weights.vector(name).reshape([1] * (rank - 1) + [-1])
        mean = ops.reduce_mean(ops.power(x, _number(2, rank)), integers(-1), keep_dims=True)
        root = ops.sqrt(ops.add(mean, _number(self._shape.norm_epsilon, rank)))
        normed = ops.multiply(ops.divide(_number(1, rank), root), x)
        return ops.multiply(normed, ops.constant(weight))

    def _rotary(self) -> tuple[Any, Any]:
        """Return cosine and sine, [batch, 1, tokens, head_dim]."""
        positions = ops.convert(ops.unsqueeze(self._positions, integers(2)), ov.Type.f32)
        frequencies = self._shape.inverse_frequencies.reshape(1, 1, -1)
        half = ops.multiply(positions, ops.constant(frequencies))
        angles = ops.concat([half, half], -1)
        heads = integers(1)
        return ops.unsqueeze(ops.cos(angles), heads), ops.unsqueeze(ops.sin(angles), heads)

    def _rotate(self, x: Any) -> Any:
        middle, axis, step = integers(self._shape.head_dim // 2), integers(3), integers(1)
        first = ops.slice(x, integers(0), middle, step, axis)
        second = ops.slice(x, middle, integers(_LAST), step, axis)
        turned = ops.concat([ops.multiply(second, _number(-1, 4)), first], -1)
        return ops.add(ops.multiply(x, self._cos), ops.multiply(turned, self._sin))

    def _remember(self, x: Any, name: str) -> Any:
        """Append [batch, heads, tokens, head_dim] to what the state holds, and return all of it."""
        num_heads, head_dim = self._shape.num_kv_heads, self._shape.head_dim
        info = VariableInfo()
        info.data_shape = ov.PartialShape([-1, num_heads, -1, head_dim])
        info.data_type = ov.Type.f32
        info.variable_id = f"past_key_values.{name}"
        variable = Variable(info)
        sizes = [self._batch, integers(num_heads), integers(0), integers(head_dim)]
        nothing = ops.broadcast(ops.constant(np.float32(0)), ops.concat(sizes, 0))
        past = ops.gather(ops.read_value(nothing, variable), self._beams, ops.constant(np.int64(0)))
        full = ops.concat([past, x], 2)
        self._sinks.append(ops.assign(full, variable))
        return full

    def _repeat(self, x: Any) -> Any:
        """Give each query head the keys or values of its group."""
        shape = self._shape
        if shape.num_heads == shape.num_kv_heads:
            return x
        group = shape.num_heads // shape.num_kv_heads
        sizes = [self._batch, *map(integers, (shape.num_kv_heads, group, 1, shape.head_dim))]
        wide = ops.broadcast(ops.unsqueeze(x, integers(2)), ops.concat(sizes, 0), "BIDIRECTIONAL")
        return ops.reshape(
            wide, integers(0, shape.num_heads, -1, shape.head_dim), special_zero=True
        )

    def _expand_mask(self) -> Any:
        rows = ops.unsqueeze(ops.unsqueeze(self._mask, integers(1)), integers(1))
        return ops.convert(rows, ov.Type.f32)


def _number(value: float, rank: int) -> Any:
    return ops.constant(np.full([1] * rank, value, dtype=np.float32))


def _split(x: Any, sizes: list[int]) -> list[Any]:
    outputs: list[Any] = ops.variadic_split(
        x, ops.constant(np.int64(-1)), integers(*sizes)
    ).outputs()
    return outputs


def _parameter(name: str, sizes: list[int], kind: ov.Type) -> Any:
    parameter = ops.parameter(sizes, kind, name)
    # GenAI finds the inputs by either.
    parameter.set_friendly_name(name)
    parameter.output(0).set_names({name})
    return parameter
