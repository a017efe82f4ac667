"""What guidance costs a step: eight sequences that decode, kept to a JSON schema and free.

usage: python -m benchmarks.guided_steps [--rounds N]

Each round runs free and guided sequences right after each other, so that the machine's moods hit
both; and measures by itself what guidance adds: the masks, taking the tokens in, and the sampler's
use of the masks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from benchmarks.decode_ceiling import find_stored, start
from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.batching.guidance import Guidance
from mm_orch.core.generation import SamplingParams
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.kv_cache.cache import KVCache
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.optimization.engines.contract import EngineSpec, Sequence
from mm_orch.optimization.engines.sampling import sample

if TYPE_CHECKING:
    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend

_NUM_STREAMS = 8
_PROMPT_TOKENS = 100
_STEPS = 32
_RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "kind": {"enum": ["fox", "dog", "cat"]},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "kind", "age", "tags"],
    "additionalProperties": False,
}
# Long enough that none ends.
_GUIDE = Guide(
    shape=JsonSchemaShape(json.dumps({"type": "array", "items": _RECORD, "minItems": 100}))
)


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    num_rounds = parser.parse_args().rounds
    stored = find_stored()
    backend = start(stored)
    compiler = GrammarCompiler(Path(stored.directory), stored.eos_token_ids)
    begin_s = time.perf_counter()
    compiler.compile(_GUIDE)
    print(f"first grammar, tokeniser included: {(time.perf_counter() - begin_s) * 1e3:.0f} ms")
    for name, value_ms in parts_ms(compiler).items():
        print(f"{name}: {value_ms:.2f} ms of processor time a step", flush=True)
    rounds = [
        (step_ms(backend, stored, compiler, None), step_ms(backend, stored, compiler, _GUIDE))
        for _ in range(num_rounds)
    ]
    free_ms, guided_ms = (statistics.median(one) for one in zip(*rounds, strict=True))
    ratio = statistics.median(guided / free for free, guided in rounds)
    print(f"median step, free: {free_ms:.2f} ms; guided: {guided_ms:.2f} ms; ratio {ratio:.3f}")
    return 0


def step_ms(
    backend: PyTorchBackend, stored: StoredModel, compiler: GrammarCompiler, guide: Guide | None
) -> float:
    """Median time of a batcher's step in which every sequence decodes."""
    facts = backend.start(_ignored(stored))
    batcher = DynamicBatcher(
        backend,
        KVCache(facts.num_kv_blocks, facts.kv_block_tokens),
        BatcherSpec(max_batch_size=_NUM_STREAMS, max_batch_tokens=2048, is_adaptive=False),
        time.monotonic,
        Guidance(compiler),
    )
    for index in range(_NUM_STREAMS):
        batcher.add(_make(index, guide))
    times = []
    for _ in range(_STEPS):
        begin_s = time.perf_counter()
        batcher.step()
        times.append((time.perf_counter() - begin_s) * 1e3)
    # The first step takes the prompts in, and makes the grammars.
    return statistics.median(times[1:])


def parts_ms(compiler: GrammarCompiler) -> dict[str, float]:
    """Mean processor time of each thing that guidance adds to a step, with random logits."""
    guidance = Guidance(compiler)
    guided = [_make(index, _GUIDE) for index in range(_NUM_STREAMS)]
    free = [_make(index, None) for index in range(_NUM_STREAMS)]
    spent = dict.fromkeys(("masks", "taking tokens in", "sampler, free", "sampler, guided"), 0.0)
    for _ in range(_STEPS):
        logits = torch.randn(_NUM_STREAMS, compiler.vocab_size)
        begin_s = time.thread_time()
        for sequence in guided:
            guidance.mask(sequence)
        masked_s = time.thread_time()
        sample(logits, free)
        free_s = time.thread_time()
        chunks = sample(logits, guided)
        sampled_s = time.thread_time()
        for sequence, chunk in zip(guided, chunks, strict=True):
            sequence.token_ids.extend(chunk.token_ids)
            guidance.accept(sequence, chunk.token_ids)
        spent["masks"] += masked_s - begin_s
        spent["sampler, free"] += free_s - masked_s
        spent["sampler, guided"] += sampled_s - free_s
        spent["taking tokens in"] += time.thread_time() - sampled_s
    return {name: total_s * 1e3 / _STEPS for name, total_s in spent.items()}


def _make(index: int, guide: Guide | None) -> Sequence:
    return Sequence(
        sequence_id=str(index),
        token_ids=[(7 * index + 13 * place) % 40_000 + 100 for place in range(_PROMPT_TOKENS)],
        params=SamplingParams(
            max_tokens=1000, temperature=0.0, ignore_eos=guide is None, guide=guide
        ),
    )


def _ignored(stored: StoredModel) -> EngineSpec:
    # A backend that has started returns its facts, whatever it is asked to load.
    return EngineSpec(
        model=stored.name,
        directory=stored.directory,
        cache_directory="",
        context_length=stored.context_length,
        eos_token_ids=stored.eos_token_ids,
    )


if __name__ == "__main__":
    sys.exit(main())
