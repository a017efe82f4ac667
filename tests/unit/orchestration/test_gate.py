from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from mm_orch.orchestration.gate import Bound, Gate
from mm_orch.orchestration.ticket import Ticket


@dataclass
class Place:
    """A gate whose bound the test sets, and everyone who has asked to pass."""

    bound: Bound
    passed: list[str] = field(default_factory=list)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.gate = Gate(lambda _: self.bound)

    async def ask(
        self, name: str, *, priority: int = 0, caller: str = "a", num_sequences: int = 1
    ) -> None:
        """Let somebody ask, who passes at once or waits."""
        ticket = Ticket("m", float(len(self.tickets)), caller=caller, priority=priority)
        self.tickets[name] = ticket
        self.tasks[name] = asyncio.create_task(self._enter(name, ticket, num_sequences))
        await settle()

    async def leave(self, name: str) -> None:
        self.gate.leave(self.tickets[name])
        await settle()

    async def _enter(self, name: str, ticket: Ticket, num_sequences: int) -> None:
        await self.gate.enter(ticket, num_sequences=num_sequences, num_tokens=1)
        self.passed.append(name)


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(3):
        await asyncio.sleep(0)


async def close(place: Place) -> None:
    for task in place.tasks.values():
        task.cancel()
    await asyncio.gather(*place.tasks.values(), return_exceptions=True)


async def test_no_more_pass_than_the_bound_and_each_that_leaves_lets_one_in() -> None:
    place = Place(Bound(2))
    for name in ("first", "second", "third", "fourth"):
        await place.ask(name)
    assert place.passed == ["first", "second"]

    await place.leave("second")
    assert place.passed == ["first", "second", "third"]
    # Told twice, for the engine's end and for the request's.
    await place.leave("second")

    assert place.passed == ["first", "second", "third"]
    await close(place)


async def test_the_highest_priority_passes_first_and_callers_take_turns() -> None:
    place = Place(Bound(1))
    await place.ask("running")
    for name in ("a1", "a2"):
        await place.ask(name)
    await place.ask("b1", caller="b")
    await place.ask("urgent", priority=1)

    for name in ("running", "urgent", "b1", "a1"):
        await place.leave(name)

    assert place.passed == ["running", "urgent", "b1", "a1", "a2"]


@pytest.mark.parametrize("is_yielding", [True, False])
async def test_where_lower_priorities_give_way_a_higher_one_passes_at_once(
    is_yielding: bool,  # noqa: FBT001 - a parameter
) -> None:
    place = Place(Bound(2, is_yielding=is_yielding))
    for name in ("low 1", "low 2", "low 3"):
        await place.ask(name)
    for name in ("high 1", "high 2", "high 3"):
        await place.ask(name, priority=3)

    expected = ["high 1", "high 2"] if is_yielding else []
    assert place.passed == ["low 1", "low 2", *expected]
    await close(place)


async def test_a_request_of_many_sequences_waits_for_room_and_is_not_overtaken() -> None:
    place = Place(Bound(4))
    await place.ask("one")
    await place.ask("two")
    await place.ask("many", num_sequences=16)
    await place.ask("three")
    assert place.passed == ["one", "two"]

    await place.leave("one")
    assert place.passed == ["one", "two"]
    await place.leave("two")

    # Larger than the bound: it goes alone.
    assert place.passed == ["one", "two", "many"]
    await place.leave("many")
    assert place.passed == ["one", "two", "many", "three"]


async def test_who_goes_away_while_waiting_makes_way_for_those_behind() -> None:
    place = Place(Bound(2))
    await place.ask("one")
    await place.ask("two")
    await place.ask("wide", num_sequences=2)
    await place.ask("next")
    await place.leave("one")
    assert place.passed == ["one", "two"]

    place.tasks["wide"].cancel()
    await settle()

    assert place.passed == ["one", "two", "next"]


async def test_who_goes_away_in_the_moment_of_passing_keeps_no_place() -> None:
    place = Place(Bound(1))
    await place.ask("one")
    await place.ask("two")
    await place.ask("three")

    place.gate.leave(place.tickets["one"])
    place.tasks["two"].cancel()
    await settle()

    assert place.passed == ["one", "three"]


async def test_a_bound_that_is_raised_lets_more_in_when_the_gate_is_told() -> None:
    place = Place(Bound(1))
    for name in ("one", "two", "three"):
        await place.ask(name)
    place.bound = Bound(3)

    place.gate.wake("m")
    await settle()

    assert place.passed == ["one", "two", "three"]


async def test_models_do_not_stand_in_each_others_way() -> None:
    gate = Gate(lambda _: Bound(1))

    for model in ("m", "n"):
        async with asyncio.timeout(10):
            await gate.enter(Ticket(model, 0.0), num_sequences=1, num_tokens=1)
