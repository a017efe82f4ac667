"""Costs are found again from what a server with these costs would have shown."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from mm_orch.benchmarking.records import RequestRecord
from mm_orch.planning.costs import NUM_EARLY, MeasuredCosts
from mm_orch.planning.measuring import BESIDE, CLIENTS, PROMPT_TOKENS
from mm_orch.planning.samples import Sample, beside_sample_of, fit_samples, samples_of

COSTS = MeasuredCosts(
    fixed_s=0.005,
    per_sequence_s=0.0014,
    per_prompt_token_s=0.0011,
    per_key_s=1e-6,
    per_early_sequence_s=0.0008,
    per_early_token_s=0.0003,
    per_request_s=0.008,
)
_OVERHEAD_S = 0.012
_TEMPLATE_TOKENS = 16


def samples(noise_ratio: float) -> list[Sample]:
    """What measuring a server with these costs gives."""
    dice = random.Random(1)  # noqa: S311 - reproducible on purpose
    found = []
    for num_clients, num_context in [*((one, 40) for one in CLIENTS), (1, 420), (1, 180)]:
        num_keys = num_clients * num_context
        found.append(
            Sample(
                duration_s=COSTS.step_s(num_clients, num_keys, 0, 0),
                num_decoding=num_clients,
                num_keys=num_keys,
                num_early_decoding=min(num_clients, NUM_EARLY),
            )
        )
    for num_tokens in PROMPT_TOKENS:
        compute_s = COSTS.step_s(0, 0, num_tokens, num_tokens**2 / 2) + COSTS.per_request_s
        found.append(
            Sample(
                duration_s=compute_s + _OVERHEAD_S,
                is_first=True,
                num_requests=1,
                num_prompt_tokens=num_tokens,
                num_early_tokens=min(num_tokens, NUM_EARLY),
                num_pairs=num_tokens**2 / 2,
                num_held_tokens=_TEMPLATE_TOKENS,
            )
        )
    for num_clients, num_tokens in BESIDE:
        # A prompt in every second step, in pieces of as many tokens as there are clients.
        num_requests = num_clients / num_tokens / 2
        step_s = COSTS.step_s(num_clients, 60 * num_clients, num_clients, 0)
        step_s += COSTS.step_s(num_clients, 60 * num_clients, 0, 0)
        found.append(
            Sample(
                duration_s=step_s / 2 + num_requests * COSTS.per_request_s,
                num_requests=num_requests,
                num_decoding=num_clients,
                num_keys=60 * num_clients,
                num_prompt_tokens=num_clients / 2,
                num_early_decoding=min(num_clients, NUM_EARLY),
                num_early_tokens=num_clients / 2,
            )
        )
    return [replace(one, duration_s=one.duration_s * dice.gauss(1, noise_ratio)) for one in found]


def test_exact_samples_give_the_costs_back() -> None:
    server = fit_samples(samples(0.0))

    for name in MeasuredCosts.__dataclass_fields__:
        found, given = getattr(server.costs, name), getattr(COSTS, name)
        assert found == pytest.approx(given, rel=1e-6, abs=1e-9), name
    assert server.overhead_s == pytest.approx(_OVERHEAD_S, rel=1e-6)
    assert server.num_template_tokens == _TEMPLATE_TOKENS
    assert server.residual_ratio < 1e-9


def test_noisy_samples_give_nothing_below_zero() -> None:
    server = fit_samples(samples(0.08))

    costs = [getattr(server.costs, name) for name in MeasuredCosts.__dataclass_fields__]
    assert min(*costs, server.overhead_s) >= 0
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

    assert (gap.is_first, gap.num_decoding) == (False, 1)
    assert gap.duration_s == pytest.approx(0.01)
    assert (first.is_first, first.num_prompt_tokens, first.duration_s) == (True, 16, 0.3)
    assert (first.num_held_tokens, first.num_requests) == (4, 1)


def test_requests_together_tell_of_steps_while_all_generate() -> None:
    [gap] = samples_of([a_record(0, 0.1, 0.5), a_record(1, 1.05, 0.5)])

    assert (gap.num_decoding, gap.is_first) == (2, False)
    assert gap.duration_s == pytest.approx(0.5)


_FIRST_COMES_AT = 3


@dataclass
class _Engine:
    """Steps of known costs, of which each takes in at most so many tokens of the one prompt."""

    piece: int = 12
    now_s: float = 0.0

    def run(self, num_output: int, prompts: list[tuple[int, int]]) -> list[RequestRecord]:
        """Give a long answer, and beside it short ones to prompts, one after another."""
        pieces_s: list[float] = [0.0]
        waiting = list(prompts)
        begin_s, left, num_to_come = 0.0, 0, 0
        own_s: list[float] = []
        told: list[RequestRecord] = []
        for number in range(num_output):
            if number == _FIRST_COMES_AT:
                begin_s, left = self.now_s, waiting[0][0]
            count = min(self.piece, left)
            self.now_s += COSTS.step_s(1 + bool(num_to_come), 0, count, 0)
            self.now_s += COSTS.per_request_s * (count > 0 and left == waiting[0][0])
            pieces_s.append(self.now_s)
            if num_to_come:
                own_s.append(self.now_s)
                num_to_come -= 1
                if not num_to_come:
                    told.append(_told(begin_s, own_s, waiting.pop(0)))
                    begin_s, own_s, left = self.now_s, [], waiting[0][0] if waiting else 0
            elif count:
                left -= count
                if not left:
                    own_s.append(self.now_s)
                    num_to_come = waiting[0][1] - 1
        return [_told(-0.01, pieces_s, (20, num_output + 1)), *told]


def _told(begin_s: float, pieces_s: list[float], lengths: tuple[int, int]) -> RequestRecord:
    return RequestRecord(
        session=0,
        turn=0,
        begin_s=begin_s,
        pieces_s=tuple(pieces_s),
        end_s=pieces_s[-1],
        num_prompt_tokens=lengths[0],
        num_output_tokens=lengths[1],
    )


@pytest.mark.parametrize("num_prompt", [12, 40, 64])
def test_a_long_answer_tells_what_came_in_beside_it(num_prompt: int) -> None:
    records = _Engine().run(200, [(num_prompt, 9)] * 6)

    [mean] = beside_sample_of(records)

    num_steps = round((records[-1].pieces_s[-1] - records[0].pieces_s[0]) / mean.duration_s)
    assert mean.num_requests * num_steps == pytest.approx(6)
    assert mean.num_prompt_tokens * num_steps == pytest.approx(6 * num_prompt)
    # One token of each step is the long answer's; of eight of each other's they decode together.
    assert mean.num_decoding * num_steps == pytest.approx(num_steps + 6 * 8)
    predicted_s = (
        COSTS.step_s(0, 0, 0, 0)
        + (COSTS.per_sequence_s + COSTS.per_early_sequence_s) * mean.num_decoding
        + COSTS.per_prompt_token_s * mean.num_prompt_tokens
        + COSTS.per_early_token_s * mean.num_early_tokens
        + COSTS.per_request_s * mean.num_requests
    )
    assert predicted_s == pytest.approx(mean.duration_s, rel=1e-6)


def test_an_answer_of_one_piece_tells_nothing_of_steps() -> None:
    assert beside_sample_of([a_record(0, 0.1, 0.01, num_tokens=1), a_record(1, 0.2, 0.01)]) == []
