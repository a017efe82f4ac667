"""What a plan says, of costs and loads whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_orch.benchmarking.objective import Objective
from mm_orch.core.errors import InvalidValueError
from mm_orch.planning.capacity import KV_MEMORY, Site, find_gains, make_plan
from mm_orch.planning.hardware import NAMES, change_hardware, find_gpu, split_option
from mm_orch.planning.model_shape import ModelShape
from mm_orch.planning.traffic import Traffic
from tests.unit.planning.loads import COSTS

SITE = Site(costs=COSTS, kv_tokens=200_000, kv_bytes_per_token=46_080)
CHATS = Traffic(rate_per_s=3.0, num_prompt_tokens=40, num_output_tokens=48)
WITHIN = Objective(ttft_ms=2000, itl_ms=100)
SHAPE = "parameters=8e9,layers=32,heads=32,kv_heads=8"


def test_more_requests_need_more_replicas_and_each_keeps_the_objective() -> None:
    plans = [make_plan(SITE, replace(CHATS, rate_per_s=rate), WITHIN) for rate in (1.0, 10.0, 40.0)]

    numbers = [plan.num_replicas for plan in plans]
    assert numbers == sorted(set(numbers))
    assert all(plan.is_met for plan in plans)
    assert all(plan.expected.good_ratio >= 0.95 for plan in plans if plan.expected.good_ratio)
    assert all(plan.load_ratio <= 0.85 for plan in plans)


def test_a_stricter_objective_needs_no_fewer_replicas() -> None:
    load = replace(CHATS, rate_per_s=20.0)
    numbers = [
        make_plan(SITE, load, Objective(ttft_ms=bound, itl_ms=60)).num_replicas
        for bound in (4000, 1000, 300)
    ]

    assert numbers == sorted(numbers)


def test_the_time_between_tokens_bounds_the_batch() -> None:
    plan = make_plan(SITE, CHATS, Objective(itl_ms=50))

    assert plan.batch_bound == "time between tokens"
    assert COSTS.step_s(plan.max_batch_size, 0, 0, 0) <= 0.05
    assert plan.expected.time_per_token.p95_s <= 0.05


def test_little_memory_bounds_the_batch_and_is_named() -> None:
    site = Site(costs=replace(COSTS, fixed_s=0.5), kv_tokens=400)

    plan = make_plan(site, replace(CHATS, rate_per_s=0.2), Objective(e2e_ms=120_000))

    assert plan.batch_bound == KV_MEMORY
    assert plan.max_batch_size == 400 // 88
    assert find_gains(site, CHATS, Objective(e2e_ms=120_000))[KV_MEMORY] > 1.2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"fixed_s": 5.0}, "the fixed part of a step"),
        ({"per_sequence_s": 1.0}, "decoding"),
        ({"per_early_sequence_s": 1.0}, "decoding"),
        ({"per_prompt_token_s": 1.0}, "taking in prompts"),
        ({"per_early_token_s": 1.0}, "taking in prompts"),
        ({"per_request_s": 5.0}, "taking in requests"),
    ],
)
def test_what_takes_longest_is_the_bottleneck(change: dict[str, float], named: str) -> None:
    gains = find_gains(replace(SITE, costs=replace(COSTS, **change)), CHATS, Objective(e2e_ms=1e9))

    assert max(gains, key=lambda name: gains[name]) == named


def test_an_objective_that_nothing_keeps_is_said_to_be_missed() -> None:
    plan = make_plan(SITE, CHATS, Objective(ttft_ms=10))

    assert not plan.is_met
    assert plan.expected.good_ratio == 0.0


def test_a_request_longer_than_the_memory_is_refused_in_words() -> None:
    with pytest.raises(InvalidValueError, match=r"--traffic: the longest request has 133 tokens"):
        make_plan(replace(SITE, kv_tokens=100), CHATS, WITHIN)


def test_a_model_by_its_figures_has_the_roofline_s_steps() -> None:
    shape, gpu = ModelShape.parse(SHAPE), find_gpu("h100-sxm")
    assert gpu is not None
    costs = shape.on(gpu)

    # 16 GB of weights at 70% of 3,350 GB/s; a prompt of 4,096 tokens at half of 989 TFLOP/s.
    assert costs.step_s(1, 0, 0, 0) == pytest.approx(16e9 / (0.7 * 3350e9) + 0.001)
    assert costs.step_s(0, 0, 4096, 0) == pytest.approx(2 * 8e9 * 4096 / 494.5e12 + 0.001)
    assert shape.count_kv_bytes(2) == 131_072
    assert shape.count_kv_tokens(gpu) == int((72e9 - 16e9) / 131_072)


@pytest.mark.parametrize("name", NAMES[1:])
def test_each_gpu_is_found_and_its_figures_can_be_replaced(name: str) -> None:
    gpu = find_gpu(name)
    assert gpu is not None
    changed = change_hardware(gpu, "tflops=1.5")

    assert changed.flops_per_s == 1.5e12
    assert changed.bytes_per_s == gpu.bytes_per_s


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate=0", "--traffic: rate='0' is not allowed; give a number of requests a second from"),
        ("prompt=1.5", "prompt='1.5' is not allowed; give a whole number of tokens from 1 to"),
        ("output=x", "output='x' is not allowed"),
        ("think=inf", "think='inf' is not allowed"),
        ("speed=1", "'speed=1' is not allowed; give NAME=NUMBER with these names: rate, prompt"),
        ("rate", "'rate' is not allowed"),
        ("rate=1,rate=2", "rate is given twice"),
    ],
)
def test_traffic_that_is_none_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(InvalidValueError) as refused:
        Traffic.parse(text)

    assert said in str(refused.value)


def test_other_options_name_what_is_wrong_too() -> None:
    with pytest.raises(InvalidValueError, match="--model-shape: layers is missing; give a whole"):
        ModelShape.parse("parameters=1e9")
    with pytest.raises(InvalidValueError, match="'abacus' is not known; give one of machine, t4"):
        split_option("abacus,memory=3")


def test_sessions_come_at_the_rate_and_with_the_lengths_asked_for() -> None:
    traffic = Traffic.parse("rate=5,prompt=100,output=20,turns=2,shared=30,think=4")
    sessions = list(traffic.draw(2000.0, rate_per_s=5.0, seed=1))

    turns = [turn for session in sessions for turn in session.turns]
    assert len(turns) / 2000 == pytest.approx(5.0, rel=0.05)
    assert sum(turn.num_prompt_tokens for turn in turns) / len(turns) == pytest.approx(
        100, rel=0.03
    )
    assert {session.num_group_tokens for session in sessions} == {30}
    assert traffic.mean_prompt_tokens == 30 + 100 + 60
