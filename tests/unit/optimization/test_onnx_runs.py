"""How steps are cut into runs of the graph, and what a run's inputs say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.onnx.linear import quantize, quantize_with_offsets
from mm_orch.optimization.engines.onnx.runs import Run, lay_out, plan_runs

DECODE = 1


def schedule(name: str, num_computed: int, num_new: int, num_waiting: int = 0) -> ScheduledSequence:
    """Make a sequence whose block ids count down, with tokens that a step does not take yet."""
    num_tokens = num_computed + num_new + num_waiting
    num_blocks = -(-num_tokens // 16)
    sequence = Sequence(
        sequence_id=name,
        token_ids=list(range(num_tokens)),
        params=SamplingParams(max_tokens=1),
        num_computed_tokens=num_computed,
        block_ids=list(range(num_blocks))[::-1],
    )
    return ScheduledSequence(sequence, num_new)


def names_of(runs: list[Run]) -> list[tuple[bool, list[str]]]:
    return [(run.is_padded, [piece.sequence.sequence_id for piece in run.pieces]) for run in runs]


def test_decoding_sequences_of_like_length_share_a_run() -> None:
    batch = [schedule(str(length), length, DECODE) for length in (100, 300, 200)]

    assert names_of(plan_runs(batch)) == [(True, ["300", "200", "100"])]


def test_a_long_sequence_does_not_make_short_ones_gather_its_length() -> None:
    batch = [schedule("long", 6000, DECODE), *(schedule(f"s{i}", 90, DECODE) for i in range(3))]

    assert names_of(plan_runs(batch)) == [(True, ["long"]), (True, ["s0", "s1", "s2"])]


def test_short_prompts_share_a_run_and_long_ones_do_not() -> None:
    short = [schedule(f"s{i}", 0, 20) for i in range(4)]
    long = [schedule(f"l{i}", 0, 600) for i in range(2)]

    runs = names_of(plan_runs([*short, *long]))

    assert runs == [(False, ["s0", "s1", "s2", "s3"]), (False, ["l0"]), (False, ["l1"])]


def test_a_few_decoding_sequences_join_a_prompts_run_and_many_do_not() -> None:
    few = [schedule("p", 0, 50), schedule("d", 200, DECODE)]
    many = [schedule("p", 0, 200), *(schedule(f"d{i}", 200, DECODE) for i in range(20))]

    assert names_of(plan_runs(few)) == [(False, ["p", "d"])]
    assert [run.is_padded for run in plan_runs(many)] == [True, False]


def test_a_huge_prompt_is_cut_so_that_its_scores_fit_into_memory() -> None:
    batch = [schedule("huge", 4096, 2048, num_waiting=5), schedule("whole", 0, 3000)]

    runs = plan_runs(batch)

    assert all(
        sum(p.num_new for p in run.pieces) * sum(p.num_keys for p in run.pieces) <= 2**20
        for run in runs
    )
    for name, begin, end in (("huge", 4096, 6144), ("whole", 0, 3000)):
        pieces = [p for run in runs for p in run.pieces if p.sequence.sequence_id == name]
        assert [piece.begin for piece in pieces] == [
            begin,
            *(piece.num_keys for piece in pieces[:-1]),
        ]
        assert pieces[-1].num_keys == end
    assert [sequence.sequence_id for run in runs for sequence in run.wanted] == ["whole"]


def test_a_padded_run_masks_and_never_reads_what_is_not_a_sequences_own() -> None:
    batch = [schedule("a", 20, DECODE), schedule("b", 2, DECODE)]
    [run] = plan_runs(batch)

    inputs = lay_out(run, window=4)

    assert inputs["token_ids"].tolist() == [[20], [2]]
    assert inputs["positions"].tolist() == [[20], [2]]
    # Position 20 is the fifth slot of the second block, which is block 0.
    assert inputs["slots"].tolist() == [[[4]], [[2]]]
    assert inputs["key_slots"].tolist()[0] == [*range(16, 32), *range(5)]
    assert inputs["key_slots"].tolist()[1] == [0, 1, 2, *[0] * 18]
    assert np.isfinite(inputs["mask"]).sum(axis=-1).tolist() == [[[21]], [[3]]]
    assert np.isfinite(inputs["window_mask"]).sum(axis=-1).tolist() == [[[4]], [[3]]]
    assert inputs["wanted_rows"].tolist() == [0, 1]


def test_sequences_in_a_dense_run_see_their_own_past_and_no_other() -> None:
    batch = [schedule("a", 2, 3), schedule("b", 0, 2, num_waiting=1)]
    [run] = plan_runs(batch)

    inputs = lay_out(run, window=None)

    seen = np.isfinite(inputs["mask"][0, 0]).astype(int).tolist()
    assert seen == [
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]
    assert inputs["positions"].tolist() == [[2, 3, 4, 0, 1]]
    # The second sequence has not reached its last token.
    assert inputs["wanted_rows"].tolist() == [2]
    assert "window_mask" not in inputs


@pytest.mark.parametrize("width", [64, 40])
@pytest.mark.parametrize("bits", [4, 8])
def test_rounded_weights_are_at_most_half_a_step_away(bits: int, width: int) -> None:
    weight = np.random.default_rng(0).normal(size=(5, width)).astype(np.float32)
    weight[0] = 0
    weight[1] = np.abs(weight[1]) + 3

    found = quantize(weight, bits)

    steps = found.steps.astype(np.float32) - found.zero_points[..., None]
    values = (steps * found.scales[..., None]).reshape(5, -1)[:, :width]
    allowed = found.scales.repeat(32, axis=1)[:, :width] * (1 if bits == 4 else 0.51)
    assert (np.abs(values - weight) <= allowed).all()
    assert found.steps.max() < 2**bits
    assert found.num_inputs == width
    assert found.pair().steps.shape[-1] == 16


def test_four_bits_with_a_minimum_between_the_steps_lose_next_to_nothing() -> None:
    draw = np.random.default_rng(0)
    step = draw.uniform(0.05, 0.3, (6, 2, 1))
    minimum = -step * draw.uniform(0, 15, (6, 2, 1))
    levels = draw.integers(0, 16, (6, 2, 32))
    levels[..., :2] = [0, 15]
    weight = (minimum + step * levels).reshape(6, 64).astype(np.float32)

    found = quantize_with_offsets(weight)

    steps = found.steps.astype(np.float32) - found.zero_points[..., None]
    values = (steps * found.scales[..., None]).reshape(6, -1)
    offsets = values[:, 64:66].repeat(32, axis=1)
    error = np.abs(values[:, :64] + offsets - weight).max()
    assert found.num_inputs == 66
    assert error < step.max() / 20
    assert not math.isclose(np.abs(offsets).max(), 0)
