"""Decoding in the worker's engine against what memory and arithmetic of this machine allow.

usage: python -m benchmarks.decode_ceiling [--rounds N]

Each round measures both ceilings and the engine right after each other, so that the machine's
moods hit all of them: reading from memory (the weights must be read once a step), multiplying
bf16 matrices, and steps of the PyTorch engine at 1 and at 32 sequences of equal length.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.results_file import write_results
from mm_orch.config import load_config
from mm_orch.core.generation import SamplingParams
from mm_orch.models.store import ModelStore
from mm_orch.optimization.cores import count_usable_cores
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.models.stored import StoredModel

_PROMPT_TOKENS = 100
_STEPS = 48
_NUM_STREAMS = 32
_BAR_MEMORY, _BAR_ARITHMETIC = 0.5, 0.35
_READ_BYTES = 1 << 29
_MATRIX = 2048


def main() -> int:
    """Measure, print, write; return 0 when both bars are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    num_rounds = parser.parse_args().rounds
    stored = find_stored()
    num_weights = count_weights(Path(stored.directory))
    backend = start(stored)
    rounds = [measure_round(backend, num_weights) for _ in range(num_rounds)]
    figures = {key: round(statistics.median(one[key] for one in rounds), 4) for key in rounds[0]}
    results = {
        **figures,
        "num_weights": num_weights,
        "num_rounds": num_rounds,
        "bar_of_memory_ceiling": _BAR_MEMORY,
        "bar_of_arithmetic_ceiling": _BAR_ARITHMETIC,
    }
    for key, value in results.items():
        print(f"{key}: {value}")
    print(f"written: {write_results('decode_ceiling', results).name}")
    is_met = (
        figures["ratio_of_memory_ceiling"] >= _BAR_MEMORY
        and figures["ratio_of_arithmetic_ceiling"] >= _BAR_ARITHMETIC
    )
    return 0 if is_met else 1


def find_stored() -> StoredModel:
    """Return the files of the default model."""
    config = load_config(path=None, environ=os.environ, overrides={}).config
    name = config.default_model_name
    return ModelStore(config.system.data_directory).ensure(name, config.models[name].source)


def count_weights(directory: Path) -> int:
    """Numbers that a Llama's products read in a step: all layers, and the output layer."""
    config = json.loads((directory / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    num_queries = config["num_attention_heads"] * head_dim
    num_kv = config["num_key_value_heads"] * head_dim
    layer = hidden * (num_queries + 2 * num_kv) + num_queries * hidden + 3 * hidden * inner
    return int(config["num_hidden_layers"] * layer + config["vocab_size"] * hidden)


def start(stored: StoredModel) -> PyTorchBackend:
    """Load the model as a worker would, in bf16."""
    backend = PyTorchBackend()
    backend.start(
        EngineSpec(
            model=stored.name,
            directory=stored.directory,
            cache_directory=str(Path(stored.directory).parents[1] / "compiled"),
            context_length=2048,
            eos_token_ids=stored.eos_token_ids,
            dtype="bf16",
            device="cpu",
            num_threads=count_usable_cores(),
            max_kv_bytes=1 << 29,
        )
    )
    return backend


def measure_round(backend: PyTorchBackend, num_weights: int) -> dict[str, float]:
    """Return ceilings, median step times and how near to the ceilings they come."""
    numbers = torch.ones(_READ_BYTES // 8, dtype=torch.int64)
    read_s = median_s(numbers.sum)
    left, right = (torch.randn(_MATRIX, _MATRIX).bfloat16() for _ in range(2))
    multiply_s = median_s(lambda: left @ right)
    one_s, many_s = decode(backend, 1), decode(backend, _NUM_STREAMS)
    bytes_per_s = _READ_BYTES / read_s
    flops = 2 * _MATRIX**3 / multiply_s
    return {
        "memory_gb_per_s": bytes_per_s / 1e9,
        "arithmetic_gflop_per_s": flops / 1e9,
        "median_step_1_ms": one_s * 1e3,
        "median_step_32_ms": many_s * 1e3,
        "ratio_of_memory_ceiling": 2 * num_weights / bytes_per_s / one_s,
        "ratio_of_arithmetic_ceiling": 2 * num_weights * _NUM_STREAMS / flops / many_s,
    }


def median_s(work: Callable[[], object]) -> float:
    """Median time of nine calls, after one that warms up."""
    work()
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def decode(backend: PyTorchBackend, num_streams: int) -> float:
    """Median time of a step in which each sequence computes one token."""
    num_blocks = (_PROMPT_TOKENS + _STEPS) // 16 + 1
    sequences = [
        Sequence(
            sequence_id=str(index),
            token_ids=[(7 * index + 13 * place) % 40_000 + 100 for place in range(_PROMPT_TOKENS)],
            params=SamplingParams(max_tokens=_STEPS, temperature=0.0, ignore_eos=True),
            block_ids=list(range(index * num_blocks, (index + 1) * num_blocks)),
        )
        for index in range(num_streams)
    ]
    times = []
    for _ in range(_STEPS):
        batch = [ScheduledSequence(s, s.num_uncomputed_tokens) for s in sequences]
        begin = time.perf_counter()
        chunks = backend.step(batch)
        times.append(time.perf_counter() - begin)
        for scheduled, chunk in zip(batch, chunks, strict=True):
            scheduled.sequence.num_computed_tokens += scheduled.num_new_tokens
            scheduled.sequence.token_ids.extend(chunk.token_ids)
    # The first step takes the prompts in.
    return statistics.median(times[1:])


if __name__ == "__main__":
    sys.exit(main())
