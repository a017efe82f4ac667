"""The C++ kernels against the same operations in plain torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch.kernels import AttentionSpec, Rotation
from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory, KVShape
from mm_orch.optimization.engines.pytorch.native import build
from mm_orch.optimization.engines.pytorch.native.kernels import NativeKernels, has_native_kernels
from mm_orch.optimization.engines.pytorch.native.linear import NativeLinear
from mm_orch.optimization.engines.pytorch.native.quantized import (
    Quantization,
    QuantizedLinear,
    can_quantize,
)
from mm_orch.optimization.engines.pytorch.packed import pack
from mm_orch.optimization.engines.pytorch.torch_kernels import TorchKernels

if TYPE_CHECKING:
    import ctypes
    from pathlib import Path

    from mm_orch.optimization.engines.pytorch.packed import PackedStep

CPU = torch.device("cpu")
# One unit in the last place of bf16 at the size of these values; fp32 sums differ by far less.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2}
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def directory(compiled: Path) -> Path:
    return compiled


def native(directory: Path, dtype: torch.dtype, head_dim: int = 64) -> NativeKernels:
    assert has_native_kernels(dtype, head_dim)
    return NativeKernels(library_in(directory), dtype, head_dim)


def library_in(directory: Path) -> ctypes.CDLL:
    library = build.load_library(directory)
    assert library is not None, "this machine has no C++ compiler"
    return library


def random(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape).to(dtype)


def make_step(*parts: tuple[int, int]) -> PackedStep:
    """Pack sequences given as (tokens computed before, new tokens), with scattered blocks."""
    batch = []
    for index, (num_before, num_new_tokens) in enumerate(parts):
        sequence = Sequence(
            sequence_id=str(index),
            token_ids=[1] * (num_before + num_new_tokens),
            params=SamplingParams(max_tokens=1),
            num_computed_tokens=num_before,
            block_ids=list(range(index + 24 * len(parts), index, -len(parts))),
        )
        batch.append(ScheduledSequence(sequence, num_new_tokens))
    return pack(batch, CPU, is_rounded=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_rows", [1, 3, 64])
def test_add_and_norm(directory: Path, dtype: torch.dtype, num_rows: int) -> None:
    torch.manual_seed(1)
    x, residual = (random(num_rows, 576, dtype=dtype) for _ in range(2))
    weight = random(576, dtype=dtype)
    ours, theirs = residual.clone(), residual.clone()

    out = native(directory, dtype).add_rms_norm(x, ours, weight, 1e-5)

    expected = TorchKernels(dtype).add_rms_norm(x, theirs, weight, 1e-5)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    torch.testing.assert_close(out, expected, rtol=1e-2, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_without_anything_to_add_leaves_the_residual(
    directory: Path, dtype: torch.dtype
) -> None:
    residual, weight = random(5, 48, dtype=dtype), random(48, dtype=dtype)
    before = residual.clone()

    out = native(directory, dtype).add_rms_norm(None, residual, weight, 1e-5)

    assert torch.equal(residual, before)
    expected = TorchKernels(dtype).add_rms_norm(None, before, weight, 1e-5)
    torch.testing.assert_close(out, expected, rtol=1e-2, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_times_up(directory: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    # Far out too, where an exponential overflows.
    gate_up = random(9, 300, dtype=dtype) * 60

    out = native(directory, dtype).silu_mul(gate_up)

    torch.testing.assert_close(
        out, TorchKernels(dtype).silu_mul(gate_up), rtol=2e-2, atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_normed", [False, True])
def test_rotation_and_storing(directory: Path, dtype: torch.dtype, *, is_normed: bool) -> None:
    torch.manual_seed(3)
    spec = AttentionSpec(num_heads=6, num_kv_heads=2, head_dim=64)
    step = make_step((0, 5), (17, 1), (30, 29))  # 35 tokens in 36 rows
    num_rows = len(step.token_ids)
    assert num_rows == 36
    angles = torch.rand(num_rows, 32) * 6
    norms = [random(64, dtype=dtype) if is_normed else None for _ in range(2)]
    rotation = Rotation(
        cos=torch.cat((angles, angles), dim=-1).cos().to(dtype),
        sin=torch.cat((angles, angles), dim=-1).sin().to(dtype),
        q_norm=norms[0],
        k_norm=norms[1],
        eps=1e-6,
    )
    qkv = random(num_rows, 10 * 64, dtype=dtype)
    shape = KVShape(num_layers=1, num_kv_heads=2, head_dim=64, dtype=dtype)
    results = []
    for kernels in (native(directory, dtype), TorchKernels(dtype)):
        memory = KVMemory(shape, 80, CPU)
        for tensor in (memory.keys[0], memory.values[0]):
            tensor.zero_()
        queries = kernels.rope_store(
            qkv.clone(), rotation, step, memory.keys[0], memory.values[0], spec
        )
        results.append((queries[: step.num_tokens], memory.keys[0], memory.values[0]))

    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=TOLERANCE[dtype])
    assert int((results[0][1].abs().sum(dim=(1, 2)) > 0).sum()) == step.num_tokens


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [16, 32, 64, 80, 96, 128, 256])
@pytest.mark.parametrize("window", [None, 7])
def test_attention_over_scattered_blocks(
    directory: Path, dtype: torch.dtype, head_dim: int, window: int | None
) -> None:
    torch.manual_seed(4)
    spec = AttentionSpec(num_heads=6, num_kv_heads=2, head_dim=head_dim, window=window)
    # The last has so many queries that threads share its keys.
    step = make_step((0, 9), (0, 1), (47, 1), (20, 11), (16, 1), (300, 50), (90, 200))
    shape = KVShape(num_layers=1, num_kv_heads=2, head_dim=head_dim, dtype=dtype)
    memory = KVMemory(shape, 300, CPU)
    for tensor in (memory.keys[0], memory.values[0]):
        tensor.normal_()
    queries = random(len(step.token_ids), 6, head_dim, dtype=dtype)

    out = native(directory, dtype, head_dim).attend(
        queries, step, memory.keys[0], memory.values[0], spec
    )

    expected = TorchKernels(dtype).attend(queries, step, memory.keys[0], memory.values[0], spec)
    torch.testing.assert_close(out, expected, rtol=1e-2, atol=TOLERANCE[dtype])


def test_without_a_compiler_there_are_no_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_COMPILERS", ("no-such-compiler",))

    assert build.load_library(tmp_path) is None


def test_a_compiler_that_fails_is_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "_FLAGS", ("-fno-such-flag",))

    assert build.load_library(tmp_path) is None
    assert "no-such-flag" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_what_was_compiled_once_is_taken_the_next_time(directory: Path) -> None:
    native(directory, torch.float32)
    [library] = directory.glob("*.so")
    made = library.stat().st_mtime_ns

    native(directory, torch.float32)

    assert [path.stat().st_mtime_ns for path in directory.glob("*.so")] == [made]


@pytest.mark.parametrize(
    ("dtype", "head_dim"), [(torch.float16, 64), (torch.float32, 1024), (torch.float32, 63)]
)
def test_what_the_kernels_cannot_compute_is_left_to_torch(
    dtype: torch.dtype, head_dim: int
) -> None:
    assert not has_native_kernels(dtype, head_dim)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    ("num_rows", "num_outputs", "num_inputs"),
    # Every size of tile: rows in sixes, outputs in sixteens and sixty-fours, and what is left.
    [(1, 16, 2), (5, 70, 64), (6, 64, 576), (7, 33, 100), (13, 200, 34), (200, 96, 48)],
)
def test_linear_layers_multiply(
    directory: Path, num_rows: int, num_outputs: int, num_inputs: int, *, has_bias: bool
) -> None:
    torch.manual_seed(5)
    weight = random(num_outputs, num_inputs, dtype=torch.bfloat16)
    bias = random(num_outputs, dtype=torch.bfloat16) if has_bias else None
    x = random(num_rows, num_inputs, dtype=torch.bfloat16)

    out = native(directory, torch.bfloat16).make_linear(weight, bias)(x)

    expected = x.float() @ weight.float().T + (bias.float() if bias is not None else 0)
    assert out.shape == (num_rows, num_outputs)
    torch.testing.assert_close(out.float(), expected, rtol=1e-2, atol=1e-1)


def test_linear_layers_keep_leading_dimensions(directory: Path) -> None:
    layer = native(directory, torch.bfloat16).make_linear(random(24, 8, dtype=torch.bfloat16), None)

    assert layer(random(1, 5, 8, dtype=torch.bfloat16)).shape == (1, 5, 24)


def quantizing(directory: Path) -> ctypes.CDLL:
    library = library_in(directory)
    if not can_quantize(library, 32):
        pytest.skip("this processor does not multiply bf16")
    return library


def quantize_as(kind: str, num_outputs: int, num_inputs: int) -> torch.Tensor:
    """Return weights on the grid of a GGUF format: groups of 32, scales in fp16."""
    shape = (num_outputs, num_inputs // 32)
    scale = (torch.rand(*shape, 1) * 0.01 + 0.001).half().float()
    if kind == "q4_1":
        q = torch.randint(0, 16, (*shape, 32))
        # Its quantiser reaches both ends in every group.
        q[..., 0], q[..., 1] = 0, 15
        weight = scale * q + (torch.randn(*shape, 1) * 0.05).half().float()
    elif kind == "q4_0":
        q = torch.randint(-7, 7, (*shape, 32))
        q[..., 0] = -8
        weight = scale * q * torch.randint(0, 2, (*shape, 1)).mul(2).sub(1)
    else:
        q = torch.randint(-127, 128, (*shape, 32))
        q[..., 0] = 127
        weight = scale * q
    return weight.flatten(1)


@pytest.mark.parametrize(("kind", "num_bits"), [("q4_1", 4), ("q4_0", 4), ("q8_0", 8)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    ("num_rows", "num_outputs", "num_inputs"),
    [(1, 16, 32), (1, 150, 96), (2, 64, 576), (6, 33, 64), (13, 200, 32), (200, 90, 96)],
)
def test_weights_that_were_quantised_before_multiply_as_they_were(
    directory: Path,
    kind: str,
    num_bits: int,
    num_rows: int,
    num_outputs: int,
    num_inputs: int,
    *,
    has_bias: bool,
) -> None:
    torch.manual_seed(6)
    weight = quantize_as(kind, num_outputs, num_inputs)
    bias = random(num_outputs, dtype=torch.bfloat16) if has_bias else None
    x = random(num_rows, num_inputs, dtype=torch.bfloat16)

    layer = QuantizedLinear(quantizing(directory), weight, bias, num_bits)

    assert layer.loss < 1e-4
    expected = x.float() @ weight.T + (bias.float() if bias is not None else 0)
    torch.testing.assert_close(layer(x).float(), expected, rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize(("num_bits", "most"), [(4, 0.09), (8, 0.006)])
def test_the_loss_that_is_told_is_the_loss(directory: Path, num_bits: int, most: float) -> None:
    torch.manual_seed(7)
    weight = torch.randn(64, 128)

    layer = QuantizedLinear(quantizing(directory), weight, None, num_bits)

    # The layer's own weights, a column at a time.
    columns = layer(torch.eye(128, dtype=torch.bfloat16)).float().T
    loss = float((columns - weight).norm() / weight.norm())
    assert layer.loss < most
    assert layer.loss == pytest.approx(loss, rel=0.05, abs=2e-3)


def test_weights_of_zero_and_far_ones_survive(directory: Path) -> None:
    weight = torch.zeros(20, 64)
    weight[3, 5], weight[19, 40] = 100.0, -7.0

    layer = QuantizedLinear(quantizing(directory), weight, None, 4)

    columns = layer(torch.eye(64, dtype=torch.bfloat16)).float().T
    torch.testing.assert_close(columns, weight, rtol=1e-2, atol=1e-2)
    assert QuantizedLinear(quantizing(directory), torch.zeros(16, 32), None, 8).loss == 0


def test_what_would_lose_too_much_or_has_odd_sizes_stays_in_bf16(directory: Path) -> None:
    torch.manual_seed(8)
    kernels = NativeKernels(
        quantizing(directory), torch.bfloat16, 64, Quantization(4, max_loss=0.002)
    )

    assert isinstance(kernels.make_linear(quantize_as("q4_1", 32, 64), None), QuantizedLinear)
    assert isinstance(kernels.make_linear(torch.randn(32, 64), None), NativeLinear)
    assert isinstance(kernels.make_linear(torch.zeros(32, 40), None), NativeLinear)
    head = kernels.make_linear(quantize_as("q8_0", 32, 64), None, is_head=True)
    assert isinstance(head, QuantizedLinear)
    assert not can_quantize(quantizing(directory), 40)


def test_a_layer_with_two_copies_takes_the_one_for_its_rows(directory: Path) -> None:
    torch.manual_seed(9)
    # The copies differ, so that what comes tells which one was taken.
    weight = torch.randn(48, 64)
    quantization = Quantization(4, max_rows=2)
    kernels = NativeKernels(quantizing(directory), torch.bfloat16, 64, quantization)
    layer = kernels.make_linear(weight, None)
    coarse = QuantizedLinear(quantizing(directory), weight, None, 4)
    fine = NativeLinear(quantizing(directory), weight.bfloat16(), None)

    for num_rows, expected in ((1, coarse), (2, coarse), (3, fine), (40, fine)):
        x = random(num_rows, 64, dtype=torch.bfloat16)
        assert torch.equal(layer(x), expected(x))
