"""The PyTorch engine with torch.compile, on tiny models: the same text, and no surprise later."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from torch._dynamo.utils import counters

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch import generic
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
from mm_orch.optimization.engines.pytorch.native import build
from tests.stepping import greedy, spec_of
from tests.tiny_models import (
    VOCAB_SIZE,
    make_llama,
    make_olmo2,
    make_qwen3,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mm_orch.optimization.engines.contract import EngineSpec

# torch's own, when its compiler is first imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

PROMPT = [(7 * i + 3) % VOCAB_SIZE for i in range(30)]


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A compiler that has seen no model: a worker has one, and its own limit of variants."""
    # The engine sets it; this has it restored.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiling(directory: Path, dtype: str = "fp32") -> EngineSpec:
    return msgspec.structs.replace(spec_of(directory), dtype=dtype, settings={"compile": True})


def say(spec: EngineSpec) -> list[int]:
    backend = PyTorchBackend()
    backend.start(spec)
    return greedy(backend.step, PROMPT, 20, 6)


def run_step(backend: PyTorchBackend, *lengths: int, num_left: int = 0) -> None:
    """Compute a step of prompts of up to 16 tokens; the first may have some left for later."""
    batch = []
    for index, length in enumerate(lengths):
        sequence = Sequence(
            sequence_id=str(index),
            token_ids=[3] * length,
            params=SamplingParams(max_tokens=1),
            block_ids=[index],
        )
        batch.append(ScheduledSequence(sequence, length if index else length - num_left))
    backend.step(batch)


def check(backend: PyTorchBackend, expected: list[int]) -> None:
    """See that a started engine is compiled, right, and never stops to compile."""
    num_graphs = counters["stats"]["unique_graphs"]
    assert num_graphs > 0
    for lengths in ((1,), (1, 1), (5,), (1, 1, 1, 1, 4), (16,) * 15, (2,), (1,) * 16):
        run_step(backend, *lengths)
    for lengths in ((2,), (9,), (9, 1, 1)):
        run_step(backend, *lengths, num_left=1)
    assert greedy(backend.step, PROMPT, 20, 6) == expected
    assert counters["stats"]["unique_graphs"] == num_graphs


@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", ["fp32", pytest.param("bf16", marks=pytest.mark.long)])
def test_a_model_of_another_family_is_one_graph_that_the_next_start_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    directory = make_olmo2(tmp_path / "model")
    spec = compiling(directory, dtype)
    expected = say(msgspec.structs.replace(spec, settings={}))
    for _ in range(2):
        # Each worker is a process of its own, and counts its models from the first.
        monkeypatch.setattr(generic, "_numbers", itertools.count(1000))
        torch._dynamo.reset()
        counters.clear()
        backend = PyTorchBackend()
        backend.start(spec)
        check(backend, expected)
        # For one row and for several.
        assert counters["stats"]["unique_graphs"] == 2
        assert not counters["graph_break"]

    assert list((tmp_path / "compiled" / "inductor").iterdir())
    assert counters["inductor"]["fxgraph_cache_hit"] > 0
    assert counters["inductor"]["fxgraph_cache_miss"] == 0


def test_norms_rotations_and_activations_of_torch_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without kernels of our own; torch finds the compiler all the same.
    monkeypatch.setattr(build, "_COMPILERS", ())
    directory = make_qwen3(tmp_path)
    expected = say(spec_of(directory))
    backend = PyTorchBackend()

    backend.start(compiling(directory))

    check(backend, expected)


@pytest.mark.parametrize("make_model", [make_olmo2, make_llama])
def test_without_a_compiler_the_engine_goes_on_uncompiled_and_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    make_model: Callable[[Path], Path],
) -> None:
    monkeypatch.setattr(build, "_COMPILERS", ())
    directory = make_model(tmp_path)
    expected = say(spec_of(directory))
    spec = msgspec.structs.replace(compiling(directory), cache_directory=str(tmp_path / "own"))

    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert say(spec) == expected

    [told] = [one for one in caplog.records if one.name.endswith("pytorch.compiled")]
    assert told.levelno == logging.WARNING
    assert told.getMessage().startswith("tiny: runs uncompiled, as torch.compile failed:")
    assert "optimization.pytorch.compile: false" in told.getMessage()


def test_our_own_kernels_leave_nothing_to_compile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    say(compiling(make_llama(tmp_path)))

    assert "tiny: optimization.pytorch.compile has no effect" in caplog.text
    assert counters["stats"]["unique_graphs"] == 0
