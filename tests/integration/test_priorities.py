"""Who goes first where many wait: the whole path but HTTP, with real workers."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.app import open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import DeadlineError, InvalidValueError, QueueFullError
from mm_orch.core.generation import GenerationOptions, GenerationRequest, TokensPrompt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mm_orch.app import Runtime
    from mm_orch.orchestration.gate import _Lane
    from mm_orch.orchestration.remote import RemoteGeneration
    from mm_orch.orchestration.running import RunningGeneration
    from tests.odd_engines import Switch

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("builtin_model")]

MODEL = "smollm2-135m"
# A batch of one, and one more to hand.
NUM_LET_THROUGH = 2
FOR_EVER_S = 600


class Crowd:
    """A model that answers one request at a time, and everybody who asks it."""

    def __init__(self, runtime: Runtime, switch: Switch) -> None:
        self.runtime = runtime
        self.switch = switch
        self.ended: list[str] = []
        self.tasks: dict[str, asyncio.Task[str]] = {}
        self.first_text = ""

    async def hold_up(self) -> None:
        """Let two requests through, of which one runs in a step that does not end."""
        # Slow enough that it is not done before it is held up.
        self.switch.slow_down(0.2)
        reader = await self._begin("first")
        self.switch.slow_down(FOR_EVER_S)
        self.tasks["first"] = asyncio.create_task(self._finish("first", reader))
        self.ask("second")
        await self.let_through(NUM_LET_THROUGH)

    async def let_through(self, num_inside: int) -> None:
        """Wait until the worker has been given so many."""
        worker = await self.runtime.manager.acquire(MODEL)
        async with asyncio.timeout(60):
            while len(worker._streams._stream_by_id) < num_inside:  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

    def ask(self, name: str, **fields: object) -> None:
        self.tasks[name] = asyncio.create_task(self._answer(name, **fields))

    async def gather(self, num_waiting: int) -> None:
        """Wait until so many stand at the gate."""
        async with asyncio.timeout(60):
            while len(self._lane.future_by_ticket) != num_waiting:  # noqa: ASYNC110 - it asks
                await asyncio.sleep(0.01)

    @property
    def _lane(self) -> _Lane:
        return self.runtime.orchestrator.entrance.gate._lanes[MODEL]

    async def let_go(self) -> list[str]:
        """Let the engine go on; return the names in the order in which their answers ended."""
        self.switch.speed_up()
        async with asyncio.timeout(60):
            await asyncio.gather(*self.tasks.values())
        return self.ended

    async def _begin(self, name: str) -> RunningGeneration | RemoteGeneration:
        opened = self.runtime.orchestrator.open(ask(max_tokens=40, request_id=name))
        self._first = opened
        generation = await opened.__aenter__()
        self.first_text = (await anext(aiter(generation))).text
        return generation

    async def _finish(self, name: str, generation: RunningGeneration | RemoteGeneration) -> str:
        text = "".join([delta.text async for delta in generation])
        await self._first.__aexit__(None, None, None)
        self.ended.append(name)
        return text

    async def _answer(self, name: str, **fields: object) -> str:
        request = ask(request_id=name, **fields)
        async with self.runtime.orchestrator.open(request) as generation:
            text = "".join([delta.text async for delta in generation])
        self.ended.append(name)
        return text


def ask(*, max_tokens: int = 3, **fields: object) -> GenerationRequest:
    options = GenerationOptions(max_tokens=max_tokens, ignore_eos=True)
    fields = {"request_id": "r", **fields}
    return GenerationRequest(prompt=TokensPrompt((504, 338, 253)), options=options, **fields)  # type: ignore[arg-type]  # by name


@asynccontextmanager
async def crowd(switch: Switch, *engines: str, **settings: object) -> AsyncIterator[Crowd]:
    overrides = {
        f"models.{MODEL}.engines": list(engines or ["odd"]),
        "optimization.batcher.max_batch_size": 1,
        **settings,
    }
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with open_runtime(config) as runtime:
        yield Crowd(runtime, switch)


async def test_priorities_and_callers_decide_who_is_next(odd_engines: Switch) -> None:
    async with crowd(odd_engines) as here:
        await here.hold_up()
        for number in range(4):
            here.ask(f"many {number}", caller="many")
        await here.gather(4)
        here.ask("one", caller="one")
        here.ask("low", priority=-1)
        await here.gather(6)

        order = await here.let_go()

        assert order[:2] == ["first", "second"]
        assert order[-1] == "low"
        # Each caller has had nothing before, so the one that asks later is second at the latest.
        assert "one" in order[2:4]


async def test_a_higher_priority_does_not_wait_for_what_runs(odd_engines: Switch) -> None:
    async with crowd(odd_engines) as here:
        whole = await here._answer("alone", max_tokens=40)
        await here.hold_up()
        here.ask("waits")
        await here.gather(1)
        here.ask("urgent", priority=5)
        await here.let_through(NUM_LET_THROUGH + 1)
        # It goes past the one that waits, into the engine.
        await here.gather(1)

        order = await here.let_go()

        assert order == ["alone", "urgent", "first", "second", "waits"]
        # What was set aside has said all that it had to say.
        assert here.first_text + here.tasks["first"].result() == whole


async def test_who_waits_at_the_gate_counts_for_the_queue_and_may_go_away(
    odd_engines: Switch,
) -> None:
    async with crowd(odd_engines, **{"monitoring.server.queue_capacity": 3}) as here:
        await here.hold_up()
        here.ask("leaves")
        here.ask("stays")
        await here.gather(2)
        with pytest.raises(QueueFullError):
            await here._answer("refused")

        here.tasks.pop("leaves").cancel()
        await here.gather(1)
        with pytest.raises(DeadlineError):
            await here._answer("late", timeout_s=0.2)
        await here.gather(1)

        assert await here.let_go() == ["first", "second", "stays"]
        await here.runtime.orchestrator.wait_until_idle()


async def test_a_full_queue_lets_a_higher_priority_in(odd_engines: Switch) -> None:
    async with crowd(odd_engines, **{"monitoring.server.queue_capacity": 2}) as here:
        await here.hold_up()
        here.ask("waits")
        await here.gather(1)
        with pytest.raises(QueueFullError):
            await here._answer("refused")

        here.ask("urgent", priority=5)
        await here.let_through(NUM_LET_THROUGH + 1)

        assert await here.let_go() == ["urgent", "first", "second", "waits"]


async def test_what_goes_on_after_a_workers_death_keeps_its_place(odd_engines: Switch) -> None:
    async with crowd(odd_engines, "odd", "spare") as here:
        await here.hold_up()
        for number, name in enumerate(("a", "b"), start=1):
            here.ask(name)
            await here.gather(number)
        worker = await here.runtime.manager.acquire(MODEL)

        os.kill(worker.pid, signal.SIGKILL)

        order = await here.let_go()
        assert sorted(order[:NUM_LET_THROUGH]) == ["first", "second"]
        assert order[NUM_LET_THROUGH:] == ["a", "b"]


async def test_a_slow_reader_holds_up_nobody(odd_engines: Switch) -> None:
    async with crowd(odd_engines) as here, asyncio.timeout(60):
        opened = [here.runtime.orchestrator.open(ask()) for _ in range(4)]
        # None of them is read.
        for one in opened:
            await one.__aenter__()

        assert await here._answer("reads")
        for one in opened:
            await one.__aexit__(None, None, None)


async def test_a_priority_out_of_range_is_refused(odd_engines: Switch) -> None:
    async with crowd(odd_engines) as here:
        with pytest.raises(InvalidValueError, match="-10 to 10"):
            await here._answer("x", priority=11)
