"""Writes linear layers: floats, or weights of 4 or 8 bits in groups that share a scale.

MatMulNBits of ONNX Runtime knows zero points, but only whole ones are fast, and weights of 4 bits
in common files (Q4_1, AWQ) have a minimum between the steps. What the whole zero point misses of
it, the offset, is the same for all weights of a group, so it meets the sum of the group's inputs:

    x @ w.T = x @ steps.T + sums(x) @ offsets.T = [x, sums(x)] @ [steps, offsets].T

The offsets are small, so rounding them to 4 bits in turn loses next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.onnx.graph import GraphWriter

# Weights that share a scale.
GROUP_WEIGHTS = 32
# Of MatMulNBits: activations are rounded to 8 bits, a scale for each row and group of them.
_INT8_ACTIVATIONS = 4
_MAX_STEP = {4: 15, 8: 255}


@dataclass(frozen=True, slots=True)
class GroupedWeights:
    """Weights [out_features, in_features] as steps: ``(steps - zero_points) * scales``.

    Attributes:
        steps: [out_features, num_groups, 32], below 16 or 256.
        scales: [out_features, num_groups].
        zero_points: [out_features, num_groups].
        num_inputs: in_features, and the sums of groups where there are offsets.
    """

    steps: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.uint8]
    num_inputs: int

    def pair(self) -> GroupedWeights:
        """Return the same with two steps, and two zero points, in a byte."""
        return replace(self, steps=_pair(self.steps), zero_points=_pair(self.zero_points))


def write_linear(
    writer: GraphWriter,
    name: str,
    source: str,
    weight: NDArray[np.float32],
    *,
    bias: NDArray[np.float32] | None,
    bits: int | None,
) -> str:
    """Write ``source @ weight.T + bias`` for a weight of [out_features, in_features]."""
    bias_name = "" if bias is None else writer.add_weight(f"{name}.bias", bias)
    match bits:
        case None:
            stored = writer.add_weight(f"{name}.weight", weight.T)
            product = writer.add_node("MatMul", [source, stored], f"{name}.product")
            if not bias_name:
                return product
            return writer.add_node("Add", [product, bias_name], f"{name}.sum")
        case 4 if weight.shape[1] % GROUP_WEIGHTS == 0:
            weights = quantize_with_offsets(weight)
            source = _write_group_sums(writer, name, source)
        case _:
            weights = quantize(weight, bits)
    if bits == 4:  # noqa: PLR2004 - two in a byte
        weights = weights.pair()
    inputs = [
        source,
        writer.add_weight(f"{name}.steps", weights.steps),
        writer.add_weight(f"{name}.scales", weights.scales),
        writer.add_weight(f"{name}.zero_points", weights.zero_points),
        *(["", bias_name] if bias_name else []),
    ]
    return writer.add_node(
        "com.microsoft:MatMulNBits",
        inputs,
        f"{name}.product",
        N=weight.shape[0],
        K=weights.num_inputs,
        bits=bits,
        block_size=GROUP_WEIGHTS,
        accuracy_level=_INT8_ACTIVATIONS,
    )


def quantize(weight: NDArray[np.float32], bits: int) -> GroupedWeights:
    """Round a weight of [out_features, in_features] to steps with a whole zero point."""
    num_missing = -weight.shape[1] % GROUP_WEIGHTS
    groups = _group(np.pad(weight, ((0, 0), (0, num_missing))))
    max_step = _MAX_STEP[bits]
    low = np.minimum(groups.min(axis=-1), 0)
    scales = _not_zero((np.maximum(groups.max(axis=-1), 0) - low) / max_step)
    zero_points = np.rint(-low / scales)
    steps = np.rint(groups / scales[..., None]) + zero_points[..., None]
    return GroupedWeights(
        np.clip(steps, 0, max_step).astype(np.uint8),
        scales,
        zero_points.astype(np.uint8),
        num_inputs=weight.shape[1],
    )


def quantize_with_offsets(weight: NDArray[np.float32]) -> GroupedWeights:
    """Round a weight to 16 steps from a minimum of each group.

    Weights that lie on such steps already stay what they are.

    Returns:
        the weights, and behind them as further inputs the offsets: one for the sum of each group.
    """
    groups = _group(weight)
    low = groups.min(axis=-1)
    scales = _not_zero((groups.max(axis=-1) - low) / _MAX_STEP[4])
    steps = np.rint((groups - low[..., None]) / scales[..., None])
    zero_points = np.clip(np.rint(-low / scales), 0, _MAX_STEP[4])
    offsets = quantize(low + zero_points * scales, 4)
    return GroupedWeights(
        np.concatenate([steps.astype(np.uint8), offsets.steps], axis=1),
        np.concatenate([scales, offsets.scales], axis=1),
        np.concatenate([zero_points.astype(np.uint8), offsets.zero_points], axis=1),
        num_inputs=weight.shape[1] + offsets.num_inputs,
    )


def _write_group_sums(writer: GraphWriter, name: str, source: str) -> str:
    """Append to each row of the source the sums of its groups."""
    shape = writer.add_constant("shape_groups", np.array([0, 0, -1, GROUP_WEIGHTS]))
    last = writer.add_constant("last_axis", np.array([-1]))
    groups = writer.add_node("Reshape", [source, shape], f"{name}.groups")
    sums = writer.add_node("ReduceSum", [groups, last], f"{name}.sums", keepdims=0)
    return writer.add_node("Concat", [source, sums], f"{name}.extended", axis=-1)


def _group(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return weight.reshape(len(weight), -1, GROUP_WEIGHTS)


def _not_zero(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    # A group of equal weights has no scale; any other will do.
    return np.where(scales > 0, scales, 1).astype(np.float32)


def _pair(steps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put two values below 16 into each byte, the first into its low half, along the last axis."""
    if steps.shape[-1] % 2:
        steps = np.pad(steps, [(0, 0)] * (steps.ndim - 1) + [(0, 1)])
    return (steps[..., ::2] + 16 * steps[..., 1::2]).astype(np.uint8)
