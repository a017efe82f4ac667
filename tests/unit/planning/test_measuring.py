"""Costs are found again from what a server with these costs would have shown."""

from __future__ import annotations

import random

import pytest

from mm_orch.benchmarking.records import RequestRecord
from mm_orch.planning.costs import MeasuredCosts
from mm_orch.planning.measuring import CLIENTS, PROMPT_TOKENS, Sample, fit_samples, samples_of

COSTS = MeasuredCosts(
    fixed_s=0.006, per_sequence_s=0.0027, per_prompt_token_s=0.0017, per_key_s=1e-6
)
_OVERHEAD_S = 0.004


def samples(noise_ratio: float) -> list[Sample]:
    dice = random.Random(1)  # noqa: S311 - reproducible on purpose
    found = []
    for num_clients, num_context in [*((one, 40) for one in CLIENTS), (1, 420), (1, 180)]:
        step_s = COSTS.step_s(num_clients, num_clients * num_context, 0, 0)
        found.append(Sample(False, num_clients, num_clients * num_context, 0, 0, step_s))  # noqa: FBT003
    for num_tokens in PROMPT_TOKENS:
        first_s = COSTS.step_s(0, 0, num_tokens, num_tokens**2 / 2) + _OVERHEAD_S
        found.append(Sample(True, 0, 0, num_tokens, num_tokens**2 / 2, first_s))  # noqa: FBT003
    return [
        Sample(
            one.is_first,
            one.num_decoding,
            one.num_keys,
            one.num_prompt_tokens,
            one.num_pairs,
            one.duration_s * dice.gauss(1, noise_ratio),
        )
        for one in found
    ]


def test_exact_samples_give_the_costs_back() -> None:
    server = fit_samples(samples(0.0))

    assert server.costs.fixed_s == pytest.approx(COSTS.fixed_s, rel=1e-6)
    assert server.costs.per_sequence_s == pytest.approx(COSTS.per_sequence_s, rel=1e-6)
    assert server.costs.per_prompt_token_s == pytest.approx(COSTS.per_prompt_token_s, rel=1e-6)
    assert server.costs.per_key_s == pytest.approx(COSTS.per_key_s, rel=1e-6)
    assert server.overhead_s == pytest.approx(_OVERHEAD_S, rel=1e-6)
    assert server.residual_ratio < 1e-9


def test_noisy_samples_give_nothing_below_zero() -> None:
    server = fit_samples(samples(0.08))

    parts = (server.costs.fixed_s, server.costs.per_key_s, server.costs.per_pair_s)
    assert min(*parts, server.overhead_s) >= 0
    assert server.costs.step_s(8, 0, 0, 0) == pytest.approx(COSTS.step_s(8, 0, 0, 0), rel=0.15)
    assert 0 < server.residual_ratio < 0.15


def a_record(number: int, first_s: float, gap_s: float, num_tokens: int = 5) -> RequestRecord:
    pieces_s = tuple(first_s + gap_s * count for count in range(num_tokens))
    return RequestRecord(
        session=number,
        turn=0,
        begin_s=0.0,
        pieces_s=pieces_s,
        end_s=pieces_s[-1],
        num_prompt_tokens=20,
        num_output_tokens=num_tokens,
        num_cached_tokens=4,
    )


def test_a_lone_request_tells_of_its_prompt_and_of_its_steps() -> None:
    gap, first = samples_of([a_record(0, 0.3, 0.01)])

    assert (gap.is_first, gap.num_decoding, gap.duration_s) == (False, 1, pytest.approx(0.01))
    assert (first.is_first, first.num_prompt_tokens, first.duration_s) == (True, 16, 0.3)


def test_requests_together_tell_of_steps_while_all_generate() -> None:
    [gap] = samples_of([a_record(0, 0.1, 0.5), a_record(1, 1.05, 0.5)])

    assert (gap.num_decoding, gap.is_first) == (2, False)
    assert gap.duration_s == pytest.approx(0.5)
