"""The number formats of the OpenVINO engine's weights, on matrices that have them already."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.openvino.formats import (
    LOSSLESS,
    QuantizedMatrix,
    can_quantize,
    is_lossless,
    quantize_to_4_bits,
    quantize_to_8_bits,
)
from mm_orch.optimization.engines.openvino.shape import read_shape
from mm_orch.optimization.engines.openvino.tensors import TensorFiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 320,
}


def restore(matrix: QuantizedMatrix) -> NDArray[np.float32]:
    numbers = matrix.values.astype(np.float32)
    if matrix.zeros is not None and matrix.rests is not None:
        numbers -= matrix.zeros[..., None]
    numbers *= matrix.scales.astype(np.float32)[..., None]
    if matrix.rests is not None:
        numbers += matrix.rests.astype(np.float32)[..., None]
    return numbers.reshape(len(numbers), -1)


def on_steps(lowest: int, highest: int, *, zero_point: bool, seed: int = 0) -> NDArray[np.float32]:
    """Return [64, 128] numbers as a file's with so many steps a group would be read."""
    random = np.random.default_rng(seed)
    steps = random.integers(lowest, highest + 1, (64, 4, 32)).astype(np.float32)
    scales = random.uniform(0.01, 0.1, (64, 4, 1)).astype(np.float16).astype(np.float32)
    least = random.uniform(-1, 0.2, (64, 4, 1)).astype(np.float16).astype(np.float32)
    return (scales * steps + (least if zero_point else 0)).reshape(64, 128).astype(np.float32)


@pytest.mark.parametrize(
    ("lowest", "highest", "zero_point"),
    [
        (0, 15, True),
        # All numbers on one side of zero, or few of the steps in use.
        (0, 9, True),
        (-8, 7, False),
        (-8, 3, False),
        (2, 5, False),
    ],
)
def test_a_matrix_from_a_4_bit_file_is_found_again(
    lowest: int, highest: int, *, zero_point: bool
) -> None:
    matrix = on_steps(lowest, highest, zero_point=zero_point)

    quantized = quantize_to_4_bits(matrix)

    assert quantized.loss < LOSSLESS
    np.testing.assert_allclose(restore(quantized), matrix, atol=5e-3)
    assert is_lossless(matrix, quantize_to_4_bits)


def test_what_a_matrix_loses_is_told() -> None:
    matrix = np.random.default_rng(1).normal(size=(64, 128)).astype(np.float32)

    for quantize, most in ((quantize_to_4_bits, 0.2), (quantize_to_8_bits, 0.02)):
        quantized = quantize(matrix)
        lost = np.linalg.norm(restore(quantized) - matrix) / np.linalg.norm(matrix)

        assert quantized.loss == pytest.approx(lost, rel=0.01)
        assert LOSSLESS < lost < most
        assert not is_lossless(matrix, quantize)


def test_a_matrix_from_an_8_bit_file_is_found_again() -> None:
    matrix = on_steps(-127, 127, zero_point=False)
    # Whoever writes such a file gives each group's greatest number the last step.
    matrix = restore(quantize_to_8_bits(matrix))

    quantized = quantize_to_8_bits(matrix)

    assert quantized.loss < LOSSLESS
    assert not is_lossless(matrix, quantize_to_4_bits)
    assert is_lossless(matrix, quantize_to_8_bits)


def test_groups_of_equal_numbers_stay_what_they_are() -> None:
    matrix = np.repeat(np.array([[0.0], [0.5], [-2.0]], dtype=np.float32), 64, axis=1)

    np.testing.assert_allclose(restore(quantize_to_4_bits(matrix)), matrix)
    np.testing.assert_allclose(restore(quantize_to_8_bits(matrix)), matrix, rtol=1e-2)


def test_rows_that_are_no_whole_groups_are_not_quantised() -> None:
    matrix = np.zeros((4, 48), dtype=np.float32)

    assert not can_quantize(matrix)
    assert not is_lossless(matrix, quantize_to_8_bits)


def test_tensors_of_every_float_type_are_read_from_several_files(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    values = torch.tensor([[1.0, -2.5], [0.125, 3.0]])
    save_file({"a": values, "b": values.half()}, tmp_path / "model-1.safetensors")
    save_file({"c": values.bfloat16(), "d": values.long()}, tmp_path / "model-2.safetensors")

    files = TensorFiles(tmp_path)

    assert files.names == {"a", "b", "c", "d"}
    for name in "abc":
        np.testing.assert_array_equal(files.read(name), values.numpy())
    with pytest.raises(EngineStartError, match="d is of type I64"):
        files.read("d")
    with pytest.raises(EngineStartError, match="no tensor e"):
        files.read("e")


def test_a_folder_without_weights_or_with_damaged_ones_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match=r"holds no \.safetensors"):
        TensorFiles(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{broken")
    with pytest.raises(EngineStartError, match="cannot be read"):
        TensorFiles(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "gemma"}, "not gemma"),
        ({"hidden_act": "gelu"}, "with silu from safetensors, not gelu"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2}}, "not yarn"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"vocab_size": None}, "does not describe a decoder"),
    ],
)
def test_a_decoder_that_cannot_be_written_is_refused_with_the_reason(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | changes))

    with pytest.raises(EngineStartError, match=says):
        read_shape(tmp_path)


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({}, None),
        ({"sliding_window": 4096}, 4096),
        ({"sliding_window": 4096, "use_sliding_window": False}, None),
        ({"sliding_window": 64, "layer_types": ["full_attention"] * 2}, None),
        ({"sliding_window": 64, "layer_types": ["full_attention", "sliding_attention"]}, 64),
    ],
)
def test_a_window_counts_where_a_layer_has_it(
    changes: dict[str, object], window: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | changes))

    assert read_shape(tmp_path).window == window


def test_older_configurations_spell_the_rotation_otherwise(tmp_path: Path) -> None:
    frequencies = []
    for changes in (
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 5e5, "factor": 2}},
        {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}},
    ):
        (tmp_path / "config.json").write_text(json.dumps(LLAMA | changes))
        frequencies.append(read_shape(tmp_path).inverse_frequencies)

    np.testing.assert_array_equal(*frequencies)
