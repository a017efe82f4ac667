"""What the DeepSpeed engine decides before it loads anything, and what its ranks are told."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.deepspeed.injection import find_obstacle
from mm_orch.optimization.engines.deepspeed.messages import encode_step, read_step, write_step
from mm_orch.optimization.engines.deepspeed.plan import check_heads, plan_ranks
from mm_orch.optimization.engines.pytorch.packed import pack

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


def spec_of(dtype: str = "fp16", num_threads: int = 4, **settings: object) -> EngineSpec:
    return EngineSpec(
        model="m",
        directory="",
        cache_directory="",
        context_length=64,
        eos_token_ids=(2,),
        dtype=dtype,
        num_threads=num_threads,
        settings=settings,
    )


def test_ranks_share_the_threads() -> None:
    plan = plan_ranks(spec_of(tensor_parallel=2, num_threads=5), device="cpu", num_devices=0)

    assert (plan.num_ranks, plan.num_threads) == (2, 2)


def test_without_settings_one_rank_has_all_threads() -> None:
    plan = plan_ranks(spec_of(), device="cpu", num_devices=0)

    assert (plan.num_ranks, plan.num_threads, plan.wants_kernels) == (1, 4, False)


def test_pipelines_are_refused_with_the_way_out() -> None:
    with pytest.raises(EngineStartError, match=r"pipeline_parallel is 2.*refuses") as caught:
        plan_ranks(spec_of(pipeline_parallel=2), device="cuda", num_devices=8)

    assert "optimization.vllm.pipeline_parallel_size" in str(caught.value)


@pytest.mark.parametrize(
    ("device", "num_devices", "found"),
    [("cpu", 0, "there are 4 cores here"), ("cuda", 1, "there is 1 GPU here")],
)
def test_more_ranks_than_there_are_places_for_are_refused_with_the_number(
    device: str, num_devices: int, found: str
) -> None:
    with pytest.raises(EngineStartError, match=rf"tensor_parallel is 5, but {found}"):
        plan_ranks(spec_of(tensor_parallel=5), device=device, num_devices=num_devices)


def test_more_ranks_than_heads_are_refused_with_the_number() -> None:
    check_heads("m", num_kv_heads=3, num_ranks=3)

    with pytest.raises(EngineStartError, match=r"m has 3 key-value heads.*4 ranks"):
        check_heads("m", num_kv_heads=3, num_ranks=4)


@pytest.mark.parametrize(
    ("asked", "device", "taken"),
    [
        ("fp16", "cuda", "fp16"),
        ("auto", "cuda", "fp16"),
        ("bf16", "cuda", "bf16"),
        ("fp16", "cpu", "fp32"),
        ("auto", "cpu", "fp32"),
        ("bf16", "cpu", "bf16"),
        ("fp32", "cpu", "fp32"),
    ],
)
def test_a_cpu_takes_fp32_for_fp16(asked: str, device: str, taken: str) -> None:
    assert plan_ranks(spec_of(asked), device=device, num_devices=1).dtype == taken


def test_what_is_not_used_on_a_cpu_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    plan_ranks(spec_of("fp16", replace_with_kernel_inject=True), device="cpu", num_devices=0)

    assert "fp32 takes the place of fp16" in caplog.text
    assert "replace_with_kernel_inject is not used" in caplog.text


def test_a_number_format_that_it_lacks_is_refused() -> None:
    with pytest.raises(EngineStartError, match=r"int4, which the DeepSpeed engine does not have"):
        plan_ranks(spec_of("int4"), device="cpu", num_devices=0)


def test_a_step_arrives_as_it_was_sent() -> None:
    def sequence(name: str, num_tokens: int, num_computed_tokens: int) -> Sequence:
        return Sequence(
            sequence_id=name,
            token_ids=list(range(num_tokens)),
            params=SamplingParams(max_tokens=4),
            num_computed_tokens=num_computed_tokens,
            block_ids=[7, 3, 5],
        )

    batch = [
        ScheduledSequence(sequence("decodes", 20, 19), 1),
        ScheduledSequence(sequence("in pieces", 40, 5), 30),
    ]
    sent = pack(batch, CPU, is_rounded=True)
    pipe = io.BytesIO()

    write_step(pipe, encode_step(sent))
    pipe.seek(0)
    got = read_step(pipe, CPU)

    assert got is not None
    for name in ("token_ids", "positions", "slots", "wanted_rows"):
        assert getattr(got, name).tolist() == getattr(sent, name).tolist()
    assert got.num_tokens == sent.num_tokens == 31
    assert [s.key_slots.tolist() for s in got.segments] == [
        s.key_slots.tolist() for s in sent.segments
    ]
    assert read_step(pipe, CPU) is None


def test_a_step_without_a_complete_prompt_arrives_too() -> None:
    sequence = Sequence(
        sequence_id="a",
        token_ids=[1, 2, 3],
        params=SamplingParams(max_tokens=4),
        block_ids=[0],
    )
    pipe = io.BytesIO()

    write_step(pipe, encode_step(pack([ScheduledSequence(sequence, 2)], CPU)))
    pipe.seek(0)
    got = read_step(pipe, CPU)

    assert got is not None
    assert got.wanted_rows.tolist() == []


@pytest.mark.parametrize(
    ("make_config", "num_ranks", "reason"),
    [
        (lambda c: c.LlamaConfig(), 2, None),
        (lambda c: c.LlamaConfig(num_key_value_heads=8), 1, "its query heads share"),
        (lambda c: c.LlamaConfig(attention_bias=True), 1, "its projections have biases"),
        (lambda c: c.LlamaConfig(), 3, "3 ranks cannot share its 32 heads evenly"),
        (lambda c: c.GPT2Config(), 1, "it is a gpt2, not a llama"),
        (
            lambda c: c.LlamaConfig(
                rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
            ),
            1,
            "its rotations are scaled",
        ),
    ],
)
def test_kernels_go_only_into_models_that_they_compute(
    make_config: Callable[[Any], Any], num_ranks: int, reason: str | None
) -> None:
    import transformers

    found = find_obstacle(make_config(transformers), num_ranks=num_ranks)

    assert (found is None) if reason is None else (reason in str(found))
