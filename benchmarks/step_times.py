"""What a step of the real engine takes, by how many sequences decode and how much prompt it takes.

usage: python -m benchmarks.step_times [--rounds N]

Starts a worker process with the built-in model on the PyTorch engine and sends it sequences, so
that steps of many sizes come: decoding alone, a prompt alone, and a prompt beside those that
decode. Then fits, by least squares of the relative error, ``fixed + per_sequence * decoding +
per_prompt_token * prompt tokens``: the constants of ``benchmarks.batching_simulator``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import zmq.asyncio

from benchmarks.decode_ceiling import find_stored
from benchmarks.results_file import write_results
from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.events import StepCompleted
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.cores import count_usable_cores
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from mm_orch.workers.worker import Worker

if TYPE_CHECKING:
    from mm_orch.core.events import Event
    from mm_orch.workers.stream import TokenStream

_BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32)
_PROMPT_TOKENS = (16, 32, 64, 128, 256)
_DECODING_BESIDE = (0, 4, 16)
_SHORT_PROMPT = 16
_DECODE_STEPS = 24
_ENDLESS = 1_500


@dataclass(frozen=True, slots=True)
class Step:
    """One step: sequences that decoded, prompt tokens, and what it took."""

    num_decoding: int
    num_prompt_tokens: int
    duration_s: float


class _Steps:
    """An observer that keeps what steps took."""

    def __init__(self) -> None:
        self.seen: list[StepCompleted] = []

    def observe(self, event: Event) -> None:
        if isinstance(event, StepCompleted):
            self.seen.append(event)


def main() -> int:
    """Measure, fit, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    dtype, steps = asyncio.run(measure(parser.parse_args().rounds))
    figures = {"dtype": dtype, **fit(steps)}
    for key, value in figures.items():
        print(f"{key}: {value}")
    print(f"written: {write_results('step_times', figures).name}")
    return 0


async def measure(num_rounds: int) -> tuple[str, list[Step]]:
    """Return the number format that a real worker has chosen, and its steps."""
    stored = find_stored()
    spec = WorkerSpec(
        address="",
        engine="pytorch",
        engine_spec=EngineSpec(
            model=stored.name,
            directory=stored.directory,
            cache_directory=str(Path(stored.directory).parents[1] / "compiled"),
            context_length=2048,
            eos_token_ids=stored.eos_token_ids,
            device="cpu",
            num_threads=count_usable_cores(),
            max_kv_bytes=1 << 30,
        ),
        batcher=BatcherSpec(max_batch_size=64, max_batch_tokens=4096, is_adaptive=False),
        cache=CacheSpec(is_reusing=False),
    )
    seen, context = _Steps(), zmq.asyncio.Context()
    worker = await Worker.launch(spec, context=context, observer=seen)
    try:
        await worker.wait_until_ready()
        dtype = worker.facts.dtype
        watching = asyncio.create_task(worker.watch())
        source = _Source(worker, seen)
        # The first steps make what later ones reuse.
        await _read_to_end(source.open(_SHORT_PROMPT, _DECODE_STEPS))
        rounds = [await _measure_round(source) for _ in range(num_rounds)]
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    finally:
        await worker.stop()
        context.term()
    return dtype, [step for one in rounds for step in one]


class _Source:
    """Sends sequences of given lengths, each with tokens of its own."""

    def __init__(self, worker: Worker, steps: _Steps) -> None:
        self.steps = steps
        self._worker = worker
        self._number = 0

    def open(self, num_prompt_tokens: int, num_tokens: int) -> TokenStream:
        self._number += 1
        tokens = tuple(
            (7 * self._number + 13 * place) % 40_000 + 100 for place in range(num_prompt_tokens)
        )
        params = SamplingParams(max_tokens=num_tokens, temperature=0.0, ignore_eos=True)
        return self._worker.submit(
            [SequenceOrder(sequence_id=str(self._number), token_ids=tokens, params=params)]
        )


async def _measure_round(source: _Source) -> list[Step]:
    steps: list[Step] = []
    for batch_size in _BATCH_SIZES:
        source.steps.seen.clear()
        streams = [source.open(_SHORT_PROMPT, _DECODE_STEPS) for _ in range(batch_size)]
        for stream in streams:
            await _read_to_end(stream)
        steps += [
            Step(one.batch_size, 0, one.duration_s)
            for one in source.steps.seen
            if one.phase == "decode" and one.batch_size == batch_size
        ]
    for num_decoding in _DECODING_BESIDE:
        steps += await _measure_prompts(source, num_decoding)
    return steps


async def _measure_prompts(source: _Source, num_decoding: int) -> list[Step]:
    beside = [source.open(_SHORT_PROMPT, _ENDLESS) for _ in range(num_decoding)]
    for stream in beside:
        # Told of its start, then of its first token: it decodes from then on.
        await stream.next()
        await stream.next()
    steps = []
    for num_tokens in _PROMPT_TOKENS:
        source.steps.seen.clear()
        await _read_to_end(source.open(num_tokens, 1))
        phase = "mixed" if num_decoding else "prefill"
        steps += [
            Step(num_decoding, num_tokens, one.duration_s)
            for one in source.steps.seen
            if one.phase == phase
        ]
    for stream in beside:
        stream.close()
    return steps


async def _read_to_end(stream: TokenStream) -> None:
    while not stream.is_done:
        await stream.next()


def fit(steps: list[Step]) -> dict[str, object]:
    """Return the coefficients in milliseconds, and how well they fit each size's median step."""
    by_size: dict[tuple[int, int], list[float]] = {}
    for step in steps:
        by_size.setdefault((step.num_decoding, step.num_prompt_tokens), []).append(step.duration_s)
    medians_s = np.array([statistics.median(times) for times in by_size.values()])
    sizes = np.array([(1.0, *size) for size in by_size])
    costs_s, *_ = np.linalg.lstsq(sizes / medians_s[:, None], np.ones(len(sizes)), rcond=None)
    fitted_s = sizes @ costs_s
    residuals = fitted_s / medians_s - 1
    unexplained = float(np.sum((medians_s - fitted_s) ** 2))
    total = float(np.sum((medians_s - medians_s.mean()) ** 2))
    spread = [
        statistics.pstdev(times) / statistics.fmean(times)
        for times in by_size.values()
        if len(times) > 1
    ]
    return {
        "fixed_ms": round(float(costs_s[0]) * 1e3, 3),
        "per_sequence_ms": round(float(costs_s[1]) * 1e3, 3),
        "per_prompt_token_ms": round(float(costs_s[2]) * 1e3, 4),
        "r_squared": round(1 - unexplained / total, 4),
        "median_residual_ratio": round(float(np.median(np.abs(residuals))), 3),
        "largest_residual_ratio": round(float(np.max(np.abs(residuals))), 3),
        "noise_ratio": round(statistics.median(spread), 3),
        "num_steps": len(steps),
        "steps": [
            {
                "decoding": size[0],
                "prompt_tokens": size[1],
                "median_ms": round(float(median) * 1e3, 2),
                "fitted_ms": round(float(fitted) * 1e3, 2),
            }
            for size, median, fitted in zip(by_size, medians_s, fitted_s, strict=True)
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
