"""Steps that do what a test tells them to, and a log of what they did."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import EngineFailedError
from mm_orch.workflows.deadline import RunDeadline
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_runner import run_graph
from mm_orch.workflows.graph_state import Slot, Values
from mm_orch.workflows.graph_step import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.workflows.graph_progress import Progress
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.graph_state import StepContext

QUESTION = Slot("question", str)
ANSWER = Slot("answer", str)


def slot(name: str) -> Slot[str]:
    return Slot(name, str)


def slots(names: str) -> tuple[Slot[str], ...]:
    return tuple(slot(name) for name in names.split())


@dataclass
class Script:
    """What a step does: takes its time, fails so often, says its words, writes what it read.

    Attributes:
        duration_s: of each attempt.
        failures: one is raised by each of the first attempts.
        words: said before it may fail.
    """

    duration_s: float = 0.0
    failures: Sequence[BaseException] = ()
    words: Sequence[str] = ()
    begins_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    is_running: bool = False

    async def run(self, context: StepContext, step: Step) -> None:
        loop = asyncio.get_running_loop()
        number = len(self.begins_s)
        self.begins_s.append(loop.time())
        self.is_running = True
        try:
            for word in self.words:
                await context.say(word)
            await asyncio.sleep(self.duration_s)
            if number < len(self.failures):
                raise self.failures[number]
            read = [str(context.find(one)) for one in step.reads]
            for output in step.outputs:
                context.put(output, f"{output.name}({','.join(read)})")
            self.ends_s.append(loop.time())
        finally:
            self.is_running = False


def make_step(
    name: str,
    inputs: str = "question",
    outputs: str = "",
    *,
    script: Script | None = None,
    optional_inputs: str = "",
    **fields: Any,
) -> Step:
    """Make a step of slots by their names, which writes one called as itself."""
    played = script or Script()

    async def run(context: StepContext) -> None:
        await played.run(context, step)

    step = Step(
        name=name,
        run=run,
        inputs=slots(inputs),
        optional_inputs=slots(optional_inputs),
        outputs=slots(outputs or name),
        **fields,
    )
    return step


def make_graph(*steps: Step, results: str = "") -> Graph:
    return Graph(
        name="tried", steps=steps, inputs=(QUESTION,), answer=ANSWER, results=slots(results)
    )


def failure(text: str = "broken") -> EngineFailedError:
    return EngineFailedError(text)


class Listener:
    """Keeps the progress of a run.

    Args:
        pauses_s: what it takes to tell each of the first events.
    """

    def __init__(self, pauses_s: Sequence[float] = ()) -> None:
        self.events: list[Progress] = []
        self._pauses_s = iter(pauses_s)

    async def tell(self, event: Progress) -> None:
        # As a real reader does, so that everything else gets its turn.
        await asyncio.sleep(next(self._pauses_s, 0))
        self.events.append(event)

    def named(self, kind: type[Progress]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def play(
    graph: Graph, listener: Listener | None = None, *, timeout_s: float | None = None
) -> Outcome:
    """Run a graph whose question is "q", by the loop's own clock."""
    clock = asyncio.get_running_loop().time
    inputs = Values()
    inputs.put(QUESTION, "q")
    return await run_graph(
        graph,
        inputs,
        tell=(listener or Listener()).tell,
        clock=clock,
        deadline=None if timeout_s is None else RunDeadline(graph.name, timeout_s, clock),
    )
