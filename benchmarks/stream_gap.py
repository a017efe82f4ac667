"""How evenly running streams go on while a long prompt is taken in.

usage: python -m benchmarks.stream_gap [--rounds N] [--streams N] [--tokens N] [--settle S]

Eight streams run; some seconds later a 1,500-token prompt comes. The largest gap between two
pieces of text of any stream, from its arrival to its first text, is set against the median gap of
the same streams before it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.contenders import counter_of, find_model, ours, run_all
from benchmarks.results_file import write_results
from benchmarks.rounds import warm_up
from mm_orch.benchmarking.client import Client
from mm_orch.benchmarking.workloads import (
    Session,
    Turn,
    Workload,
    WorkloadKind,
    body_of,
    make_workload,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.benchmarking.client import Target
    from mm_orch.benchmarking.stream_reader import StreamReader

_BAR = 3.0
_TIMEOUT_S = 300.0
_PROMPT_OUTPUT_TOKENS = 16
# The prompts' own start is no steady pace yet.
_NUM_SKIPPED_GAPS = 8


@dataclass(frozen=True, slots=True)
class Observation:
    """One round.

    Attributes:
        arrival_s: when the long prompt was sent.
        first_text_s: when its answer began.
        streams: the times of each running stream's pieces.
    """

    arrival_s: float
    first_text_s: float
    streams: tuple[tuple[float, ...], ...]


def main() -> int:
    """Measure, print, write; return 0 when the bar is met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--settle", type=float, default=3.0)
    options = parser.parse_args()
    model = find_model()
    count = counter_of(model)
    rounds = []
    with run_all([ours(model, "ours")]) as running:
        warm_up(running, WorkloadKind.PLAIN, count)
        for number in range(options.rounds):
            streams = make_counting(options.streams, number, options.tokens)
            prompt = make_workload(
                WorkloadKind.LONG_PROMPT,
                1,
                seed=number,
                count_tokens=count,
                num_output_tokens=_PROMPT_OUTPUT_TOKENS,
            )
            target = running[0].target
            observation = asyncio.run(_observe(target, streams, prompt, options.settle))
            rounds.append(gaps_of(observation))
            print(f"round {number + 1}: {rounds[-1]}", file=sys.stderr, flush=True)
    figures: dict[str, object] = {
        key: round(statistics.median(one[key] for one in rounds), 4) for key in rounds[0]
    }
    figures |= {"num_rounds": options.rounds, "num_streams": options.streams, "bar_ratio": _BAR}
    for key, value in figures.items():
        print(f"{key}: {value}")
    print(f"written: {write_results('stream_gap', figures).name}")
    return 0 if statistics.median(one["ratio"] for one in rounds) <= _BAR else 1


def make_counting(num_streams: int, number: int, num_output_tokens: int) -> Workload:
    """Return prompts that count up and are continued so: every token of the answer is text.

    Of other texts some tokens show nothing, half a character for instance, and the gap between
    two pieces of text would be that of several tokens.
    """
    starts = (1000 * (number * num_streams + stream + 1) for stream in range(num_streams))
    texts = (" ".join(f"{value}," for value in range(first, first + 20)) for first in starts)
    sessions = tuple(Session(turns=(Turn(text, num_output_tokens),)) for text in texts)
    return Workload(name="counting", is_chat=False, sessions=sessions)


def gaps_of(observation: Observation) -> dict[str, float]:
    """Return the median gap before, the largest gap while the prompt was taken in, their ratio.

    A gap counts as before when it ended before the arrival, and as while when any part of it lies
    between the arrival and the first text.

    Raises:
        ValueError: a stream ended too early, or had no gap before.
    """
    before: list[float] = []
    during: list[float] = []
    for times in observation.streams:
        if times[-1] < observation.first_text_s:
            message = "a stream ended before the prompt was taken in: give more --tokens"
            raise ValueError(message)
        gaps = list(pairwise(times))
        before += [b - a for a, b in gaps[_NUM_SKIPPED_GAPS:] if b <= observation.arrival_s]
        during += [
            b - a for a, b in gaps if b > observation.arrival_s and a < observation.first_text_s
        ]
    if not before:
        message = "no stream ran before the prompt came: give more --settle"
        raise ValueError(message)
    median_s, largest_s = statistics.median(before), max(during)
    return {
        "median_gap_before_s": median_s,
        "largest_gap_during_s": largest_s,
        "median_gap_during_s": statistics.median(during),
        "ratio": largest_s / median_s,
        "prompt_ttft_s": observation.first_text_s - observation.arrival_s,
    }


async def _observe(
    target: Target, streams: Workload, prompt: Workload, settle_s: float
) -> Observation:
    client = Client(target, timeout_s=_TIMEOUT_S)
    try:
        running = [
            asyncio.create_task(_ask(client, target, streams, number))
            for number in range(len(streams.sessions))
        ]
        await asyncio.sleep(settle_s)
        arrival_s = time.perf_counter()
        long = await _ask(client, target, prompt, 0)
        readers = await asyncio.gather(*running)
    finally:
        client.close()
    _refuse_failures([long, *readers])
    return Observation(
        arrival_s, long.pieces_s[0], tuple(tuple(reader.pieces_s) for reader in readers)
    )


async def _ask(client: Client, target: Target, workload: Workload, number: int) -> StreamReader:
    session = workload.sessions[number]
    body = body_of(workload, session, 0, answers=[], model=target.model)
    return await client.post(workload.path, body)


def _refuse_failures(readers: Sequence[StreamReader]) -> None:
    for reader in readers:
        if reader.error is not None or not reader.pieces_s:
            message = f"a request failed: {reader.error or 'no text came'}"
            raise RuntimeError(message)


if __name__ == "__main__":
    sys.exit(main())
