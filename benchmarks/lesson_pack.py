"""Whether every lesson is whole: a hundred subjects through the workflow, with the built-in model.

usage: python -m benchmarks.lesson_pack [--lessons N] [--at-once N] [--engine NAME] [--seed N]

Each lesson is judged by a JSON schema validator of its own and by rules beside the product's
(lesson_judge.py): valid, nothing empty, no exercise twice, every answer filled, none cut. Counted
are also further attempts (pieces that could not be used and were drawn again) and last resorts
(exercises made of the explanation's sentences).

What the lessons teach is not judged: a model of 135 million parameters says much that is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.lesson_judge import FAULTS, judge
from benchmarks.results_file import report
from benchmarks.statistics import Verdict
from mm_orch.app import Runtime, open_runtime
from mm_orch.config import load_config
from mm_orch.core.errors import MuAIError
from mm_orch.core.generation import GenerationOptions, Message
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from mm_orch.workflows.lesson_schema import MAX_SECTIONS
from mm_orch.workflows.lesson_wishes import read_wishes

if TYPE_CHECKING:
    from collections.abc import Sequence

# A query a line. The first 16 and seven of the Chinese ones are of the routing set's training part:
# those whose lesson needs no documents and no earlier turns. The others are written for this.
SUBJECTS = tuple(
    Path(__file__).with_name("lesson_subjects.txt").read_text(encoding="utf-8").splitlines()
)
_TIMEOUT_S = 3600.0


@dataclass
class Made:
    """One lesson and what it took.

    Attributes:
        faults: by kind; none of a right one.
        failure: why there is no lesson; empty where there is one.
    """

    query: str
    faults: dict[str, list[str]] = field(default_factory=dict)
    failure: str = ""
    num_exercises: int = 0
    num_wanted: int = 0
    num_gaps: int = 0
    num_sections: int = 0
    num_attempts_more: int = 0
    num_tokens: int = 0
    is_partial: bool = False
    seconds: float = 0.0


def main() -> int:
    """Make lessons, judge them, print, write; return 1 when the bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lessons", type=int, default=len(SUBJECTS))
    parser.add_argument("--at-once", type=int, default=8, help="lessons that are written together")
    parser.add_argument("--engine", default="pytorch", help="one that keeps answers to any shape")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    queries = SUBJECTS[: arguments.lessons]
    making = make_lessons(queries, arguments.engine, seed=arguments.seed, at_once=arguments.at_once)
    made = asyncio.run(making)
    figures, faults = summarise(made)
    figures |= {
        "engine": arguments.engine,
        "seed": arguments.seed,
        "at_once": arguments.at_once,
    }
    is_right = figures["num_right"] == len(SUBJECTS)
    verdict = Verdict.MET if is_right else Verdict.MISSED
    return report("lesson_pack", figures, faults, {"lessons": verdict})


async def make_lessons(
    queries: Sequence[str], engine: str, *, seed: int, at_once: int
) -> list[Made]:
    """Return a lesson on each query, some written at the same time.

    Args:
        queries: of the lessons.
        engine: that runs the built-in model.
        seed: of the first lesson; the next ones count on.
        at_once: lessons that are written at the same time.
    """
    config = load_config(path=None, environ={}, overrides={}).config
    places = asyncio.Semaphore(at_once)
    async with open_runtime(config, engine=engine) as runtime:

        async def make(number: int, query: str) -> Made:
            async with places:
                made = await _make(runtime, query, seed + number)
            print(f"{number + 1}/{len(queries)}: {_say(made)}", flush=True)
            return made

        return await asyncio.gather(*(make(*one) for one in enumerate(queries)))


async def _make(runtime: Runtime, query: str, seed: int) -> Made:
    wanted = read_wishes(query).num_exercises
    made = Made(query, num_wanted=wanted)
    call = WorkflowCall(
        request_id=f"lesson-{seed}",
        messages=(Message(role="user", content=query),),
        options=GenerationOptions(seed=seed),
        timeout_s=_TIMEOUT_S,
    )
    begin_s = time.monotonic()
    try:
        async with runtime.workflows.open("lesson_pack", call) as run:
            outcome = await run.complete()
    except MuAIError as error:
        made.failure = str(error)
        return made
    made.seconds = time.monotonic() - begin_s
    answer = outcome.values[ANSWER]
    made.faults = judge(answer.text, answer.finish_reason.value)
    lesson = json.loads(answer.text)
    made.num_exercises = len(lesson["exercises"])
    made.num_gaps = Counter(one["kind"] for one in lesson["exercises"])["gap"]
    made.num_sections = len(lesson["explanation"])
    made.num_attempts_more = len(run.models.generations) - (1 + MAX_SECTIONS + wanted)
    made.num_tokens = run.models.usage.num_generated_tokens
    made.is_partial = outcome.is_partial
    return made


def _say(made: Made) -> str:
    faults = made.failure or made.faults or "right"
    return (
        f"{faults}, {made.num_exercises} of {made.num_wanted} exercises ({made.num_gaps} gaps),"
        f" {made.num_attempts_more} more attempts, {made.seconds:.1f} s: {made.query}"
    )


def summarise(made: list[Made]) -> tuple[dict[str, object], list[str]]:
    """Return the figures of some lessons, and what was wrong with any."""
    right = [one for one in made if not one.failure and not one.faults]
    durations_s = [one.seconds for one in made if not one.failure]
    figures: dict[str, object] = {
        "num_lessons": len(made),
        "num_right": len(right),
        "num_failed": sum(bool(one.failure) for one in made),
        **{f"num_{kind}": sum(kind in one.faults for one in made) for kind in FAULTS},
        "num_partial": sum(one.is_partial for one in made),
        "num_exercises": sum(one.num_exercises for one in made),
        "num_exercises_wanted": sum(one.num_wanted for one in made),
        "num_gaps": sum(one.num_gaps for one in made),
        "num_lessons_with_gaps": sum(bool(one.num_gaps) for one in made),
        "num_sections": sum(one.num_sections for one in made),
        "num_attempts_more": sum(one.num_attempts_more for one in made),
        "num_tokens": sum(one.num_tokens for one in made),
        "median_s": round(statistics.median(durations_s), 1) if durations_s else None,
    }
    faults = [f"{one.query}: {one.failure or one.faults}" for one in made if one not in right]
    return figures, faults


if __name__ == "__main__":
    sys.exit(main())
