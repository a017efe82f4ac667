"""Decoding steps that are recorded and replayed: sizes, buffers and logic, without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch.graphs import GraphedDecoder, find_size
from mm_orch.optimization.engines.pytorch.kernels import AttentionSpec
from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory, KVShape
from mm_orch.optimization.engines.pytorch.llama import LlamaDecoder
from mm_orch.optimization.engines.pytorch.packed import pack
from mm_orch.optimization.engines.pytorch.torch_kernels import TorchKernels
from tests.tiny_models import make_llama, make_mistral

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.optimization.engines.pytorch.packed import PackedStep

CPU = torch.device("cpu")


class OperatorLog(TorchDispatchMode):
    """Notes every operator with its very tensors, as a graph of a GPU does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Run the operators again: nothing that Python decided is decided anew."""
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                # Views and what was changed in place are up to date already.
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Replay:
    """Records operators in place of a GPU."""

    def __init__(self) -> None:
        self.num_recorded = 0
        self.error: Exception | None = None

    def record(self, work: Callable[[], torch.Tensor]) -> tuple[Callable[[], Any], torch.Tensor]:
        if self.error is not None:
            raise self.error
        self.num_recorded += 1
        log = OperatorLog()
        with log:
            result = work()
        return log.replay, result


def step_of(*parts: tuple[int, int]) -> PackedStep:
    """Pack sequences given as (tokens computed before, new tokens), each with its own blocks."""
    batch = []
    first = 0
    for index, (num_before, num_new) in enumerate(parts):
        num_tokens = num_before + num_new
        num_blocks = -(-num_tokens // 16)
        sequence = Sequence(
            sequence_id=str(index),
            token_ids=[(11 * index + 5 * place) % 300 for place in range(num_tokens)],
            params=SamplingParams(max_tokens=1),
            num_computed_tokens=num_before,
            block_ids=list(range(first, first + num_blocks)),
        )
        first += num_blocks
        batch.append(ScheduledSequence(sequence, num_new))
    return pack(batch, CPU, is_rounded=True)


@pytest.mark.parametrize(
    ("parts", "size"),
    [
        ([(9, 1)], (1, 64)),
        ([(9, 1), (64, 1), (3, 1)], (3, 128)),
        ([(63, 1)] * 9, (16, 64)),
        ([(300, 1)] * 64, (64, 512)),
        ([(300, 1)] * 65, None),
        ([(9, 1), (0, 5)], None),
        ([(4096, 1)], None),
        ([(2000, 1)] * 64, (64, 2048)),
        ([(2100, 1)] * 40, None),
    ],
)
def test_steps_are_rounded_up_to_few_sizes(
    parts: list[tuple[int, int]], size: tuple[int, int] | None
) -> None:
    assert find_size(step_of(*parts)) == size


@pytest.mark.parametrize("make_model", [make_llama, make_mistral])
def test_a_replayed_step_computes_what_the_decoder_does(
    tmp_path: Path, make_model: Callable[[Path], Path]
) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(9)
    model = AutoModelForCausalLM.from_pretrained(make_model(tmp_path), dtype=torch.float32)
    shape = KVShape(num_layers=2, num_kv_heads=2, head_dim=16, dtype=torch.float32)
    capture = Replay()
    with torch.inference_mode():
        kernels = TorchKernels(torch.float32, is_padding=True)
        decoder = LlamaDecoder(model, kernels, dtype=torch.float32, context_length=512)
        graphed = GraphedDecoder(decoder, capture)
        # A recording knows its memory by address: an engine has one.
        plain, replayed = (KVMemory(shape, 40, CPU) for _ in range(2))
        # Nine share a size with ten: the second is a replay of what the first recorded.
        for parts in (
            [(9, 1)],
            [(20 + number, 1) for number in range(9)],
            [(3 * number + 1, 1) for number in range(10)],
            [(5, 1), (0, 7)],
            [(30, 1)],
        ):
            for memory in (plain, replayed):
                fill(memory)
            expected = decoder(step_of(*parts), plain)
            logits = graphed(step_of(*parts), replayed)
            torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
            for ours, theirs in zip(
                (*replayed.keys, *replayed.values), (*plain.keys, *plain.values), strict=True
            ):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert capture.num_recorded == 2
        # Its addresses are others then.
        for memory in (plain, replayed):
            memory.resize(60, num_kept=40)
        torch.testing.assert_close(
            graphed(step_of((9, 1)), replayed), decoder(step_of((9, 1)), plain)
        )
        assert capture.num_recorded == 3


def test_a_size_that_cannot_be_recorded_is_computed_all_the_same() -> None:
    calls: list[PackedStep] = []

    def decoder(step: PackedStep, _: object) -> torch.Tensor:
        calls.append(step)
        return torch.zeros(len(step.wanted_rows), 5)

    capture = Replay()
    capture.error = RuntimeError("out of memory")
    graphed = GraphedDecoder(decoder, capture)
    step = step_of((9, 1))
    memory = KVMemory(KVShape(1, 1, 8, torch.float32), 1, CPU)

    for _ in range(2):
        assert graphed(step, memory).shape == (1, 5)
        # Once is enough to know.
        capture.error = AssertionError("tried again")
    assert calls == [step, step]


def test_a_sequence_that_would_make_all_others_long_is_attended_alone() -> None:
    short = [(5, 1)] * 31

    assert step_of(*short, (100, 1)).padded_decoding is not None
    assert step_of(*short, (5000, 1)).padded_decoding is None


def fill(memory: KVMemory) -> None:
    """Write what earlier steps could have left."""
    generator = torch.Generator().manual_seed(1)
    for tensor in (*memory.keys, *memory.values):
        tensor.normal_(generator=generator)


@pytest.mark.parametrize("window", [None, 7])
def test_padded_attention_equals_that_of_each_sequence(window: int | None) -> None:
    torch.manual_seed(4)
    spec = AttentionSpec(num_heads=6, num_kv_heads=2, head_dim=32, window=window)
    step = step_of((0, 9), (0, 1), (47, 1), (20, 11), (16, 1), (130, 1))
    memory = KVMemory(
        KVShape(num_layers=1, num_kv_heads=2, head_dim=32, dtype=torch.float32), 40, CPU
    )
    fill(memory)
    # Slots that nothing was written to yet may hold anything.
    for tensor in (memory.keys[0], memory.values[0]):
        tensor[[slot for slot in range(640) if slot not in used_slots(step)]] = torch.nan
    queries = torch.randn(len(step.token_ids), 6, 32)

    padded, alone = (
        TorchKernels(torch.float32, is_padding=is_padding).attend(
            queries, step, memory.keys[0], memory.values[0], spec
        )
        for is_padding in (True, False)
    )

    assert not alone.isnan().any()
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


def used_slots(step: PackedStep) -> set[int]:
    return {int(slot) for segment in step.segments for slot in segment.key_slots}
