from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import Sequence
from mm_orch.optimization.engines.sampling import sample, uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -2.0])


def draw(logits: torch.Tensor, params: SamplingParams, outputs: tuple[int, ...] = ()) -> int:
    sequence = Sequence(sequence_id="a", token_ids=[0], params=params)
    sequence.token_ids.extend(outputs)
    [chunk] = sample(logits[None], [sequence])
    return chunk.token_ids[0]


def frequencies(**params: float) -> Counter[int]:
    return Counter(
        draw(LOGITS, SamplingParams(max_tokens=1, seed=seed, **params))  # type: ignore[arg-type]  # floats and ints by name
        for seed in range(4000)
    )


def test_draws_follow_the_softmax_of_the_logits() -> None:
    counts = frequencies(temperature=1.0)

    for token_id, probability in enumerate(torch.softmax(LOGITS, -1).tolist()):
        assert counts[token_id] / 4000 == pytest.approx(probability, abs=0.025)


def test_temperature_sharpens_and_zero_is_greedy() -> None:
    assert frequencies(temperature=0.25)[0] > frequencies(temperature=1.0)[0]
    assert set(frequencies(temperature=0.0)) == {0}


def test_a_temperature_that_nothing_can_be_divided_by_is_greedy() -> None:
    assert set(frequencies(temperature=1e-310, top_k=2)) == {0}


def test_logits_that_are_no_numbers_fail_no_neighbour() -> None:
    params = SamplingParams(max_tokens=1, top_k=2)
    sequences = [Sequence(sequence_id=name, token_ids=[0], params=params) for name in "ab"]

    chunks = sample(torch.stack([torch.full_like(LOGITS, torch.nan), LOGITS]), sequences)

    assert chunks[1].token_ids == (draw(LOGITS, params),)


@pytest.mark.parametrize(
    ("filters", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 0}, {0, 1, 2, 3, 4}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.5}, {0}),
        ({"top_p": 0.8}, {0, 1}),
        ({"min_p": 0.3}, {0, 1}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.99, "min_p": 0.2}, {0, 1}),
    ],
)
def test_filters_keep_exactly_the_likeliest(filters: dict[str, float], allowed: set[int]) -> None:
    assert set(frequencies(temperature=1.0, **filters)) == allowed


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.2, 6),
    st.one_of(st.just(1.0), st.floats(0.05, 0.9999)),
    st.one_of(st.just(0.0), st.floats(1e-7, 0.5)),
    st.one_of(st.just(0), st.integers(1, 2000)),
)
@settings(max_examples=60, deadline=None)
def test_draws_from_a_large_vocabulary_are_of_what_plain_filters_keep(
    seed: int, spread: float, top_p: float, min_p: float, top_k: int
) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(1500) * spread
    params = SamplingParams(max_tokens=1, seed=seed, top_p=top_p, min_p=min_p, top_k=top_k)
    mass = torch.softmax(logits.double(), -1)
    if 0 < top_k < len(mass):
        mass = torch.where(mass >= mass.topk(top_k).values[-1], mass, 0.0)
    if min_p:
        mass = torch.where(mass >= min_p * mass.max(), mass, 0.0)
    ordered = mass.sort(descending=True).values
    num_kept = int((ordered.cumsum(0) - ordered < top_p * mass.sum()).sum())
    # Half a thousandth aside, where rounding may decide.
    allowed = mass >= ordered[num_kept - 1] * 0.9995

    assert all(
        allowed[draw(logits, msgspec.structs.replace(params, seed=seed + number))]
        for number in range(40)
    )


def test_top_p_is_a_share_of_what_top_k_leaves() -> None:
    # Six likely ones beside many that together weigh as much as two of them.
    tail = [5e-5 * (1 - 5e-5 * place) for place in range(10_000)]
    weights = [1.0, 0.25, 0.249, 0.248, 0.247, *tail]
    logits = torch.tensor(weights).log()
    for top_k in (5, 6):
        params = SamplingParams(max_tokens=1, top_k=top_k, top_p=0.6)
        drawn = {draw(logits, msgspec.structs.replace(params, seed=seed)) for seed in range(300)}
        assert drawn == {0, 1}


def test_unlikely_tokens_are_drawn_as_often_as_they_should_be() -> None:
    # Half of the mass lies on one token, the rest on a thousand, each below the first look.
    logits = torch.cat([torch.tensor([math.log(1000.0) + 1]), torch.ones(1000)])
    params = SamplingParams(max_tokens=1)
    drawn = [draw(logits, msgspec.structs.replace(params, seed=seed)) for seed in range(4000)]

    assert drawn.count(0) / 4000 == pytest.approx(0.5, abs=0.03)
    others = [token_id for token_id in drawn if token_id]
    assert sum(token_id <= 500 for token_id in others) / len(others) == pytest.approx(0.5, abs=0.04)


def test_a_draw_does_not_depend_on_the_neighbours() -> None:
    torch.manual_seed(1)
    logits = torch.randn(6, 700) * 3
    kinds = [{"top_p": 0.9}, {}, {"temperature": 0.0}, {"top_k": 5}, {"min_p": 0.1}, {"top_p": 0.5}]
    sequences = [
        Sequence(
            sequence_id=str(row),
            token_ids=[0],
            params=SamplingParams(max_tokens=1, seed=row, **kind),  # type: ignore[arg-type]  # floats and ints by name
        )
        for row, kind in enumerate(kinds)
    ]

    together = [chunk.token_ids[0] for chunk in sample(logits, sequences)]

    assert together == [draw(logits[row], one.params) for row, one in enumerate(sequences)]


def test_penalties_turn_away_from_what_was_said() -> None:
    def greedy(**penalty: float) -> int:
        return draw(LOGITS, SamplingParams(max_tokens=9, temperature=0.0, **penalty), (0, 0, 0))

    assert greedy() == 0
    assert greedy(presence_penalty=2.0) == 1
    assert greedy(frequency_penalty=0.5) == 1
    assert greedy(frequency_penalty=0.2) == 0
    assert greedy(repetition_penalty=2.5) == 1


def test_a_bias_can_force_and_forbid() -> None:
    forced = SamplingParams(max_tokens=1, temperature=1.0, logit_bias={4: 100.0})
    forbidden = SamplingParams(max_tokens=1, temperature=0.0, logit_bias={0: -100.0})

    assert {draw(LOGITS, forced) for _ in range(20)} == {4}
    assert draw(LOGITS, forbidden) == 1


def mask_of(*token_ids: int) -> NDArray[np.uint32]:
    mask = np.zeros(1, dtype=np.uint32)
    for token_id in token_ids:
        mask[token_id // 32] |= np.uint32(1 << token_id % 32)
    return mask


@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_a_mask_leaves_only_what_it_allows(temperature: float) -> None:
    params = SamplingParams(max_tokens=1, temperature=temperature, logit_bias={0: 100.0}, top_k=3)
    sequences = [
        Sequence(
            sequence_id=str(seed),
            token_ids=[0],
            params=msgspec.structs.replace(params, seed=seed),
            mask=mask_of(2, 4),
        )
        for seed in range(60)
    ]

    drawn = {chunk.token_ids[0] for chunk in sample(LOGITS.repeat(60, 1), sequences)}

    assert drawn == ({2, 4} if temperature else {2})


def test_masks_bind_only_their_own_rows_and_tokens_beyond_them_are_forbidden() -> None:
    logits = torch.zeros(3, 40)
    logits[:, 39] = 9.0
    params = SamplingParams(max_tokens=1, temperature=0.0)
    masks = [None, mask_of(7), None]
    sequences = [
        Sequence(sequence_id=str(row), token_ids=[0], params=params, mask=mask)
        for row, mask in enumerate(masks)
    ]

    assert [chunk.token_ids for chunk in sample(logits, sequences)] == [(39,), (7,), (39,)]
    assert bool((logits[:, 39] == 9.0).all())


def test_reported_log_probabilities_are_those_of_the_unchanged_logits() -> None:
    params = SamplingParams(max_tokens=1, temperature=0.0, num_logprobs=2, logit_bias={1: 50.0})
    sequence = Sequence(sequence_id="a", token_ids=[0], params=params)

    [chunk] = sample(LOGITS[None], [sequence])

    assert chunk.logprobs is not None
    expected = torch.log_softmax(LOGITS, -1)
    assert chunk.logprobs[0].token_id == 1
    assert chunk.logprobs[0].logprob == pytest.approx(float(expected[1]))
    assert [token_id for token_id, _ in chunk.logprobs[0].top] == [0, 1]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**20))
def test_a_draw_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    first = uniform(seed, position)

    assert 0 <= first < 1
    assert uniform(seed, position) == first
    assert uniform(seed, position + 1) != first
    assert uniform(seed + 1, position) != first


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=30),
    st.integers(0, 1000),
    st.floats(0.01, 2),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.integers(0, 40),
)
def test_some_token_is_always_chosen(
    logits: list[float], seed: int, temperature: float, top_p: float, min_p: float, top_k: int
) -> None:
    params = SamplingParams(
        max_tokens=1, seed=seed, temperature=temperature, top_p=top_p, min_p=min_p, top_k=top_k
    )

    assert 0 <= draw(torch.tensor(logits), params) < len(logits)
