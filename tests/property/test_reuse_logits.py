"""Reuse, preemption, eviction and cancels change no logits: real kernels under random traffic.

Every sequence's tokens and log probabilities are compared with those of the same sequence alone,
computed in whole without any reuse. fp32, greedy.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_orch.batching.batcher import BatcherSpec, DynamicBatcher
from mm_orch.core.generation import SamplingParams
from mm_orch.kv_cache.cache import KVCache
from mm_orch.optimization.engines.contract import EngineSpec, Sequence
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
from tests.tiny_models import make_llama

if TYPE_CHECKING:
    from mm_orch.models.stored import StoredModel

# What fp32 sums differ by when they are added up in another order, with room to spare: logits
# reach about 30, and 30 * 2**-23 * sqrt(576) is 1e-4.
TOLERANCE = 2e-3
NUM_TOKENS = 6
CONTEXT = 192
# Prompts are built of these, so that they begin alike and part in the middle of blocks.
PIECES = [list(range(first, first + length)) for first, length in ((10, 21), (40, 37), (90, 16))]

Token = tuple[int, float]


class Traffic(msgspec.Struct, frozen=True):
    """Requests as lists of pieces, when each arrives, and which are cancelled when."""

    requests: list[list[int]]
    arrivals: list[int]
    cancels: dict[int, int]
    num_spare_blocks: int
    batcher: BatcherSpec
    policy: str


TRAFFIC = st.integers(2, 7).flatmap(
    lambda count: st.builds(
        Traffic,
        requests=st.lists(
            st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=count, max_size=count
        ),
        arrivals=st.lists(st.integers(0, 15), min_size=count, max_size=count),
        cancels=st.dictionaries(st.integers(0, count - 1), st.integers(1, 20), max_size=2),
        num_spare_blocks=st.integers(0, 14),
        batcher=st.builds(
            BatcherSpec,
            max_batch_size=st.integers(1, 6),
            max_batch_tokens=st.sampled_from([5, 16, 40, 300]),
        ),
        policy=st.sampled_from(["lru", "fifo"]),
    )
)


class Bench:
    """One started engine, and what it says of a prompt alone."""

    def __init__(self, directory: Path, cache_directory: Path) -> None:
        self.backend = PyTorchBackend()
        self.facts = self.backend.start(
            EngineSpec(
                model="m",
                directory=str(directory),
                cache_directory=str(cache_directory),
                context_length=CONTEXT,
                eos_token_ids=(),
                dtype="fp32",
                device="cpu",
                num_threads=2,
                max_kv_bytes=2**28,
            )
        )
        self._alone: dict[tuple[int, ...], list[Token]] = {}

    def alone(self, prompt: list[int]) -> list[Token]:
        key = tuple(prompt)
        if key not in self._alone:
            cache = KVCache(CONTEXT // 16, 16, is_reusing=False)
            traffic = Traffic(
                [], [], {}, 0, BatcherSpec(max_batch_size=1, max_batch_tokens=CONTEXT), "lru"
            )
            self._alone[key] = self.run(traffic, cache, {"a": (0, prompt)})["a"]
        return self._alone[key]

    def run(
        self, traffic: Traffic, cache: KVCache, prompts: dict[str, tuple[int, list[int]]]
    ) -> dict[str, list[Token]]:
        """Serve prompts, given with their arrival step by name, to the end or to their cancel."""
        batcher = DynamicBatcher(self.backend, cache, traffic.batcher, lambda: 0.0)
        tokens: dict[str, list[Token]] = {name: [] for name in prompts}
        left = dict(prompts)
        for step in itertools.count():
            for name in [name for name, (arrival, _) in left.items() if arrival <= step]:
                batcher.add(make(name, left.pop(name)[1]))
            batcher.abort([str(n) for n, when in traffic.cancels.items() if when == step])
            if not (left or batcher.has_work):
                break
            for chunk in batcher.step().chunks:
                assert chunk.logprobs is not None
                tokens[chunk.sequence_id].append((chunk.token_ids[0], chunk.logprobs[0].logprob))
            cache.check()
        assert cache.num_available == cache.num_blocks
        return tokens


def make(name: str, prompt: list[int]) -> Sequence:
    params = SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0, num_logprobs=0)
    return Sequence(sequence_id=name, token_ids=list(prompt), params=params)


def check(bench: Bench, traffic: Traffic) -> None:
    prompts = {
        str(number): (arrival, list(itertools.chain(*(PIECES[piece] for piece in pieces))))
        for number, (pieces, arrival) in enumerate(
            zip(traffic.requests, traffic.arrivals, strict=True)
        )
    }
    num_blocks = CONTEXT // 16 + traffic.num_spare_blocks
    cache = KVCache(num_blocks, 16, policy=traffic.policy)  # type: ignore[arg-type]  # from a list

    for name, tokens in bench.run(traffic, cache, prompts).items():
        expected = bench.alone(prompts[name][1])
        if int(name) not in traffic.cancels:
            assert len(tokens) == NUM_TOKENS
        for (token, logprob), (expected_token, expected_logprob) in zip(
            tokens, expected, strict=False
        ):
            assert token == expected_token
            assert abs(logprob - expected_logprob) < TOLERANCE


@pytest.fixture(scope="module")
def tiny_bench(tmp_path_factory: pytest.TempPathFactory, data_directory: Path) -> Bench:
    # With the kernels of the servers here: they need not be compiled again.
    return Bench(make_llama(tmp_path_factory.mktemp("tiny")), data_directory / "compiled")


@pytest.fixture(scope="module")
def real_bench(builtin_model: StoredModel, data_directory: Path) -> Bench:
    return Bench(Path(builtin_model.directory), data_directory / "compiled")


@given(traffic=TRAFFIC)
@settings(max_examples=60, deadline=None)
def test_a_tiny_model_says_the_same_with_and_without_reuse(
    tiny_bench: Bench, traffic: Traffic
) -> None:
    check(tiny_bench, traffic)


@pytest.mark.model
@given(traffic=TRAFFIC)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_real_model_says_the_same_with_and_without_reuse(
    real_bench: Bench, traffic: Traffic
) -> None:
    check(real_bench, traffic)


@pytest.mark.long
@pytest.mark.model
@given(traffic=TRAFFIC)
@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_real_model_says_the_same_under_much_traffic(
    real_bench: Bench, traffic: Traffic
) -> None:
    check(real_bench, traffic)
