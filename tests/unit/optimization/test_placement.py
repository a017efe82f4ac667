"""Models over the GPUs of machines that are made up: what a failed GPU, or no room, leads to."""

from __future__ import annotations

from mm_orch.core.events import GpuReading
from mm_orch.optimization.placement import (
    Gpu,
    Inventory,
    Need,
    Place,
    Way,
    list_ways,
    place,
    take_stock,
)

GIB = 1 << 30
VLLM = Way(engine="vllm", num_gpus=4, weights_bytes=32 * GIB, kv_bytes=8 * GIB)
SMALL = Way(
    engine="pytorch", num_gpus=1, weights_bytes=10 * GIB, kv_bytes=2 * GIB, workspace_bytes=GIB
)
CPU = Way(engine="openvino", num_gpus=0, weights_bytes=10 * GIB, kv_bytes=2 * GIB)
LARGE_WAYS = list_ways([VLLM, SMALL, CPU], allowed_gpus=(1, 2, 4))


def machine(*free_gib: int, failed: tuple[int, ...] = (), host_gib: int = 64) -> Inventory:
    """Return a machine whose GPUs have 24 GiB each, and so much of it for our models."""
    return Inventory(
        gpus=tuple(
            Gpu(
                gpu_id=str(number),
                total_bytes=24 * GIB,
                available_bytes=free * GIB,
                is_healthy=number not in failed,
            )
            for number, free in enumerate(free_gib)
        ),
        host_bytes=host_gib * GIB,
    )


def small(model: str, *, is_busy: bool = False, last_used_s: float = 0.0) -> Need:
    return Need(model=model, ways=(SMALL,), is_busy=is_busy, last_used_s=last_used_s)


def gpus_of(inventory: Inventory, needs: list[Need]) -> dict[str, tuple[str, ...]]:
    placed = place(inventory, needs, {}).place_by_model
    return {model: one.gpu_ids for model, one in placed.items()}


def test_a_share_is_what_one_gpu_must_have() -> None:
    assert VLLM.share_bytes == 10 * GIB
    assert SMALL.share_bytes == 13 * GIB
    assert Way(engine="e", num_gpus=3, weights_bytes=10, kv_bytes=0).share_bytes == 4


def test_ways_are_tried_with_fewer_gpus_then_with_the_next_engine_then_on_the_cpu() -> None:
    assert [str(way) for way in LARGE_WAYS] == [
        "vllm on 4 GPUs",
        "vllm on 2 GPUs",
        "vllm on 1 GPU",
        "pytorch on 1 GPU",
        "openvino on the CPU",
    ]


def test_models_are_packed_so_that_whole_gpus_stay_free() -> None:
    needs = [small("a"), small("b"), small("c")]

    assert gpus_of(machine(24, 24, 24), needs) == {"a": ("0",), "b": ("1",), "c": ("2",)}
    # The tightest that fits: the free one stays free.
    assert gpus_of(machine(24, 14), needs[:1]) == {"a": ("1",)}


def test_gpus_of_different_sizes_never_share_a_model() -> None:
    mixed = Inventory(
        gpus=tuple(
            Gpu(gpu_id=name, total_bytes=total * GIB, available_bytes=total * GIB)
            for name, total in (("0", 24), ("1", 80), ("2", 24))
        ),
        host_bytes=0,
    )
    two = Way(engine="vllm", num_gpus=2, weights_bytes=20 * GIB, kv_bytes=0)

    assert gpus_of(mixed, [Need(model="a", ways=(two,))]) == {"a": ("0", "2")}


def test_a_failed_gpu_leads_down_the_ways_and_the_reason_is_told() -> None:
    need = Need(model="large", ways=LARGE_WAYS, is_busy=True)
    standing: dict[str, Place] = {}
    taken = []
    for failed in ((), (3,), (2, 3), (1, 2, 3), (0, 1, 2, 3)):
        found = place(machine(24, 24, 24, 24, failed=failed), [need], standing)
        standing = dict(found.place_by_model)
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
    assert found.lesser == {
        "large": "runs with openvino on the CPU: vllm on 4 GPUs would need 10.0 GiB of each;"
        " failed GPUs: 0, 1, 2, 3"
    }


def test_a_gpu_that_is_well_again_moves_nobody() -> None:
    need = Need(model="large", ways=LARGE_WAYS)
    reduced = place(machine(24, 24, 24, 24, failed=(3,)), [need], {})

    again = place(machine(24, 24, 24, 24), [need], reduced.place_by_model)

    assert again.place_by_model == reduced.place_by_model
    assert again.leaving == ()


def test_a_busy_model_makes_the_least_recently_used_idle_ones_leave_and_no_more() -> None:
    standing = place(machine(14, 14, 14), [small("a"), small("b"), small("c")], {}).place_by_model
    needs = [
        small("a", last_used_s=3),
        small("b", last_used_s=1),
        small("c", is_busy=True),
        small("new", is_busy=True),
    ]

    found = place(machine(14, 14, 14), needs, standing)

    assert found.leaving == ("b",)
    assert found.place_by_model["new"].gpu_ids == standing["b"].gpu_ids
    assert set(found.unplaced) == {"b"}


def test_an_idle_model_whose_leaving_would_not_help_is_spared() -> None:
    tiny = Way(engine="pytorch", num_gpus=1, weights_bytes=GIB, kv_bytes=0)
    idle = Need(model="idle", ways=(tiny,), last_used_s=1)
    old = small("old", last_used_s=2)
    standing = {"idle": Place(tiny, ("0",)), "old": Place(SMALL, ("1",))}

    found = place(machine(6, 14), [idle, old, small("new", is_busy=True)], standing)

    assert found.leaving == ("old",)


def test_nobody_leaves_for_a_model_without_requests() -> None:
    standing = place(machine(14), [small("a")], {}).place_by_model

    found = place(machine(14), [small("a"), small("new", last_used_s=9)], standing)

    assert found.leaving == ()
    assert found.unplaced == {"new": "runs nowhere: pytorch on 1 GPU would need 13.0 GiB"}


def test_a_busy_model_stays_though_others_have_taken_its_memory() -> None:
    standing = place(machine(14), [small("a")], {}).place_by_model

    assert place(machine(2), [small("a", is_busy=True)], standing).leaving == ()
    assert place(machine(2), [small("a")], standing).leaving == ("a",)


def test_what_our_own_models_use_is_theirs() -> None:
    def reading(gpu_id: str, used_gib: int, *, is_healthy: bool = True) -> GpuReading:
        return GpuReading(
            gpu_id=gpu_id,
            used_bytes=used_gib * GIB,
            total_bytes=24 * GIB,
            is_healthy=is_healthy,
        )

    stock = take_stock(
        [reading("0", 15), reading("1", 4), reading("2", 0, is_healthy=False)],
        [Place(SMALL, ("0",)), Place(SMALL, ("1",)), Place(CPU, ())],
        host_bytes=7,
        reserve_bytes=GIB,
    )

    # Of the first, 2 GiB are somebody else's; the second has not grown to its share yet.
    assert [gpu.available_bytes // GIB for gpu in stock.gpus] == [21, 23, 23]
    assert [gpu.is_healthy for gpu in stock.gpus] == [True, True, False]
    assert stock.host_bytes == 7
