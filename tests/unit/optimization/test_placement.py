"""Models over the GPUs of machines that are made up: what a failed GPU, or no room, leads to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_orch.optimization.placing.rule import (
    Gpu,
    Need,
    Place,
    Way,
    describe_lack,
    list_ways,
    place,
    take_stock,
)
from tests.fake_nvml import GIB, well_reading

VLLM = Way(engine="vllm", num_gpus=4, weights_bytes=32 * GIB, kv_bytes=8 * GIB)
SMALL = Way(
    engine="pytorch", num_gpus=1, weights_bytes=10 * GIB, kv_bytes=2 * GIB, workspace_bytes=GIB
)
CPU = Way(engine="openvino", num_gpus=0)
LARGE_WAYS = (*list_ways(VLLM, num_heads=32), *list_ways(SMALL), CPU)


def machine(*free_gib: int, failed: tuple[int, ...] = ()) -> tuple[Gpu, ...]:
    """Return GPUs of 24 GiB each, with so much of it for our models."""
    return tuple(
        Gpu(
            gpu_id=str(number),
            total_bytes=24 * GIB,
            available_bytes=free * GIB,
            is_healthy=number not in failed,
        )
        for number, free in enumerate(free_gib)
    )


def small(name: str, *, is_busy: bool = False, last_used_s: float = 0.0, avoids: str = "") -> Need:
    return Need(
        name=name,
        ways=(SMALL,),
        is_busy=is_busy,
        last_used_s=last_used_s,
        avoids=frozenset(avoids),
    )


def gpus_of(gpus: tuple[Gpu, ...], needs: list[Need]) -> dict[str, tuple[str, ...]]:
    return {name: one.gpu_ids for name, one in place(gpus, needs, {}).places.items()}


def test_a_share_is_what_one_gpu_must_have() -> None:
    assert VLLM.share_bytes == 10 * GIB
    assert SMALL.share_bytes == 13 * GIB
    assert Way(engine="e", num_gpus=3, weights_bytes=10).share_bytes == 4
    assert CPU.share_bytes == 0


def test_ways_are_tried_with_fewer_gpus_then_with_the_next_engine_then_on_the_cpu() -> None:
    assert [str(way) for way in LARGE_WAYS] == [
        "vllm on 4 GPUs",
        "vllm on 2 GPUs",
        "vllm on 1 GPU",
        "pytorch on 1 GPU",
        "openvino on the CPU",
    ]


@pytest.mark.parametrize(
    ("num_gpus", "num_stages", "num_heads", "splits"),
    [
        (8, 2, 32, [(8, 2), (4, 1), (2, 1), (1, 1)]),
        (4, 4, None, [(4, 4), (2, 2), (1, 1)]),
        # Six heads are shared evenly by three as well.
        (4, 1, 6, [(4, 1), (3, 1), (2, 1), (1, 1)]),
        (6, 1, None, [(6, 1), (3, 1), (2, 1), (1, 1)]),
    ],
)
def test_stages_are_given_up_first_and_heads_are_shared_evenly(
    num_gpus: int, num_stages: int, num_heads: int | None, splits: list[tuple[int, int]]
) -> None:
    ways = list_ways(
        Way(engine="vllm", num_gpus=num_gpus, num_stages=num_stages), num_heads=num_heads
    )

    assert [(way.num_gpus, way.num_stages) for way in ways] == splits


def test_models_are_packed_so_that_whole_gpus_stay_free() -> None:
    needs = [small("a"), small("b"), small("c")]

    assert gpus_of(machine(24, 24, 24), needs) == {"a": ("0",), "b": ("1",), "c": ("2",)}
    # The tightest that fits: the free one stays free.
    assert gpus_of(machine(24, 14), needs[:1]) == {"a": ("1",)}


def test_replicas_stand_apart_while_there_is_room_elsewhere() -> None:
    assert gpus_of(machine(24, 14), [small("a", avoids="1")]) == {"a": ("0",)}
    assert gpus_of(machine(10, 14), [small("a", avoids="1")]) == {"a": ("1",)}


def test_gpus_of_different_sizes_never_share_a_model() -> None:
    mixed = tuple(
        Gpu(gpu_id=name, total_bytes=total * GIB, available_bytes=total * GIB)
        for name, total in (("0", 24), ("1", 80), ("2", 24))
    )
    two = Way(engine="vllm", num_gpus=2, weights_bytes=20 * GIB)

    assert gpus_of(mixed, [Need(name="a", ways=(two,))]) == {"a": ("0", "2")}


def test_a_failed_gpu_leads_down_the_ways_and_the_reason_is_told() -> None:
    need = Need(name="large", ways=LARGE_WAYS, is_busy=True)
    standing: dict[str, Place] = {}
    taken = []
    for failed in ((), (3,), (2, 3), (1, 2, 3), (0, 1, 2, 3)):
        found = place(machine(24, 24, 24, 24, failed=failed), [need], standing)
        standing = dict(found.places)
        taken.append((str(standing["large"].way), standing["large"].gpu_ids))

    assert taken == [
        ("vllm on 4 GPUs", ("0", "1", "2", "3")),
        ("vllm on 2 GPUs", ("0", "1")),
        ("vllm on 2 GPUs", ("0", "1")),
        # Its 40 GiB do not fit into one.
        ("pytorch on 1 GPU", ("0",)),
        ("openvino on the CPU", ()),
    ]
    assert found.leaving == ("large",)
    assert describe_lack(VLLM, machine(24, 24, failed=(0, 1))) == (
        "vllm on 4 GPUs would need 10.0 GiB of each; failed GPUs: 0, 1"
    )
    assert describe_lack(SMALL, machine(9)) == "pytorch on 1 GPU would need 13.0 GiB"


def test_a_gpu_that_is_well_again_moves_nobody() -> None:
    need = Need(name="large", ways=LARGE_WAYS)
    reduced = place(machine(24, 24, 24, 24, failed=(3,)), [need], {})

    again = place(machine(24, 24, 24, 24), [need], reduced.places)

    assert again.places == reduced.places
    assert again.leaving == ()


def test_a_busy_model_makes_the_least_recently_used_idle_ones_leave_and_no_more() -> None:
    standing = place(machine(14, 14, 14), [small("a"), small("b"), small("c")], {}).places
    needs = [
        small("a", last_used_s=3),
        small("b", last_used_s=1),
        small("c", is_busy=True),
        small("new", is_busy=True),
    ]

    found = place(machine(14, 14, 14), needs, standing)

    assert found.leaving == ("b",)
    assert found.places["new"].gpu_ids == standing["b"].gpu_ids
    assert set(found.places) == {"a", "c", "new"}


def test_an_idle_model_whose_leaving_would_not_help_is_spared() -> None:
    tiny = Way(engine="pytorch", num_gpus=1, weights_bytes=GIB)
    idle = Need(name="idle", ways=(tiny,), last_used_s=1)
    old = small("old", last_used_s=2)
    standing = {"idle": Place(tiny, ("0",)), "old": Place(SMALL, ("1",))}

    found = place(machine(6, 14), [idle, old, small("new", is_busy=True)], standing)

    assert found.leaving == ("old",)


def test_nobody_leaves_for_a_model_without_requests() -> None:
    standing = place(machine(14), [small("a")], {}).places

    found = place(machine(14), [small("a"), small("new", last_used_s=9)], standing)

    assert found.leaving == ()
    assert set(found.places) == {"a"}


def test_a_busy_model_stays_though_others_have_taken_its_memory() -> None:
    standing = place(machine(14), [small("a")], {}).places

    assert place(machine(2), [small("a", is_busy=True)], standing).leaving == ()
    assert place(machine(2), [small("a")], standing).leaving == ("a",)


def test_what_our_own_models_use_is_theirs() -> None:
    lost = replace(well_reading(2), fault="is lost")
    gpus = take_stock(
        [well_reading(0, used_gib=15), well_reading(1, used_gib=4), lost],
        [Place(SMALL, ("0",)), Place(SMALL, ("1",)), Place(CPU, ())],
        reserve_bytes=GIB,
    )

    # Of the first, 2 GiB are somebody else's; the second has not grown to its share yet.
    assert [gpu.available_bytes // GIB for gpu in gpus] == [77, 79, 79]
    assert [gpu.is_healthy for gpu in gpus] == [True, True, False]
