"""Models over GPUs, whatever GPUs there are and whatever fails."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.optimization.placing.rule import Gpu, Need, Place, Placement, Way, place

MODELS = ("a", "b", "c", "d", "e")


@st.composite
def inventories(draw: st.DrawFn) -> tuple[Gpu, ...]:
    totals = draw(st.lists(st.sampled_from([8, 16, 24]), max_size=6))
    return tuple(
        Gpu(
            gpu_id=str(number),
            total_bytes=total,
            available_bytes=draw(st.integers(0, total)),
            is_healthy=draw(st.booleans()) or draw(st.booleans()),
        )
        for number, total in enumerate(totals)
    )


WAYS = st.lists(
    st.builds(
        Way,
        engine=st.sampled_from(["vllm", "deepspeed", "pytorch"]),
        num_gpus=st.integers(0, 4),
        weights_bytes=st.integers(1, 40),
        kv_bytes=st.integers(0, 10),
        workspace_bytes=st.integers(0, 2),
    ),
    min_size=1,
    max_size=4,
).map(tuple)


@st.composite
def needs(draw: st.DrawFn) -> list[Need]:
    return [
        Need(
            name=name,
            ways=draw(WAYS),
            is_busy=draw(st.booleans()),
            last_used_s=draw(st.integers(0, 3)),
            avoids=draw(st.frozensets(st.sampled_from("012345"), max_size=2)),
        )
        for name in draw(st.lists(st.sampled_from(MODELS), unique=True))
    ]


@st.composite
def stories(draw: st.DrawFn) -> tuple[tuple[Gpu, ...], list[Need], dict[str, Place]]:
    """Models that stand; then GPUs fail, others take memory, and other models are busy."""
    before, wanted = draw(inventories()), draw(needs())
    standing = dict(place(before, wanted, {}).places)
    after = tuple(
        replace(
            gpu,
            is_healthy=draw(st.booleans()),
            available_bytes=draw(st.sampled_from([gpu.available_bytes, gpu.total_bytes // 2])),
        )
        for gpu in before
    )
    turned = [replace(need, is_busy=draw(st.booleans())) for need in wanted]
    return after, turned, standing


def taken_of(gpu: Gpu, placement: Placement) -> int:
    return sum(
        one.way.share_bytes for one in placement.places.values() if gpu.gpu_id in one.gpu_ids
    )


def is_whole(inventory: tuple[Gpu, ...], where: Place) -> bool:
    well = {gpu.gpu_id for gpu in inventory if gpu.is_healthy}
    return well >= set(where.gpu_ids)


@given(inventory=inventories(), wanted=needs())
def test_no_memory_is_given_twice(inventory: tuple[Gpu, ...], wanted: list[Need]) -> None:
    placement = place(inventory, wanted, {})

    for gpu in inventory:
        assert taken_of(gpu, placement) <= (gpu.available_bytes if gpu.is_healthy else 0)
    for need in wanted:
        found = placement.places.get(need.name)
        assert found is None or found.way in need.ways
        assert found is None or len(set(found.gpu_ids)) == found.way.num_gpus
        assert found is not None or all(way.num_gpus for way in need.ways)


@given(story=stories())
def test_after_any_change_only_what_is_busy_may_hold_more_than_there_is(
    story: tuple[tuple[Gpu, ...], list[Need], dict[str, Place]],
) -> None:
    inventory, wanted, standing = story
    placement = place(inventory, wanted, standing)

    kept_busy = {
        need.name
        for need in wanted
        if need.is_busy and placement.places.get(need.name) == standing.get(need.name)
    }
    for gpu in inventory:
        there = {name for name, one in placement.places.items() if gpu.gpu_id in one.gpu_ids}
        assert gpu.is_healthy or not there
        assert taken_of(gpu, placement) <= gpu.available_bytes or there <= kept_busy


@given(story=stories())
def test_a_busy_model_on_gpus_that_are_well_is_never_moved(
    story: tuple[tuple[Gpu, ...], list[Need], dict[str, Place]],
) -> None:
    inventory, wanted, standing = story
    placement = place(inventory, wanted, standing)

    for need in wanted:
        old = standing.get(need.name)
        if need.is_busy and old is not None and is_whole(inventory, old):
            assert placement.places[need.name] == old
            assert need.name not in placement.leaving


@given(story=stories(), data=st.data())
def test_the_answer_depends_on_no_order_and_is_answered_again(
    story: tuple[tuple[Gpu, ...], list[Need], dict[str, Place]], data: st.DataObject
) -> None:
    inventory, wanted, standing = story
    placement = place(inventory, wanted, standing)

    assert place(inventory, data.draw(st.permutations(wanted)), standing) == placement
    again = place(inventory, wanted, placement.places)
    assert again.places == placement.places
    assert again.leaving == ()


@given(story=stories())
def test_who_runs_nowhere_could_not_even_if_every_idle_model_left(
    story: tuple[tuple[Gpu, ...], list[Need], dict[str, Place]],
) -> None:
    inventory, wanted, standing = story
    placement = place(inventory, wanted, standing)

    busy = [need for need in wanted if need.is_busy]
    places = placement.places
    stood = {need.name: places[need.name] for need in busy if need.name in places}
    for need in busy:
        if need.name not in places:
            assert need.name not in place(inventory, busy, stood).places
