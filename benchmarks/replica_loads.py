"""What replicas are asked in their benchmark, and how their queues are watched."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from bisect import bisect
from typing import TYPE_CHECKING, Any

from benchmarks.server_calls import models_of
from mm_orch.benchmarking.vocabulary import write_text
from mm_orch.benchmarking.workloads import Session, Turn, Workload
from mm_orch.optimization.replicas.held_prefixes import BLOCK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from benchmarks.contenders import Running
    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.vocabulary import CountTokens

_FIRST_TOKENS = (120, 200)
_NEXT_TOKENS = (16, 32)
_OUTPUT_TOKENS = 12
_SHARED_TOKENS = 320
_SHARED_SHARE = 0.9
_OWN_TOKENS = (60, 120)
_SKEW_OUTPUT_TOKENS = (16, 64)
_SKEW_TURNS = 2
_SAMPLE_EVERY_S = 0.25


def make_conversations(
    num_sessions: int, num_turns: int, *, seed: int, count_tokens: CountTokens
) -> Workload:
    """Make conversations that begin with a text of their own and go on with short questions."""
    dice = random.Random(f"replicas {seed}")  # noqa: S311 - reproducible on purpose

    def turn(tokens: tuple[int, int]) -> Turn:
        return Turn(write_text(dice, dice.randint(*tokens), count_tokens), _OUTPUT_TOKENS)

    sessions = tuple(
        Session(turns=(turn(_FIRST_TOKENS), *(turn(_NEXT_TOKENS) for _ in range(1, num_turns))))
        for _ in range(num_sessions)
    )
    return Workload(name="conversations in turns", is_chat=True, sessions=sessions)


def make_skewed(num_sessions: int, *, seed: int, count_tokens: CountTokens) -> Workload:
    """Make conversations of two turns of which nine of ten begin alike."""
    dice = random.Random(f"skew {seed}")  # noqa: S311 - reproducible on purpose
    hot = write_text(dice, _SHARED_TOKENS, count_tokens)

    def session() -> Session:
        is_hot = dice.random() < _SHARED_SHARE
        begin = hot if is_hot else write_text(dice, _SHARED_TOKENS, count_tokens)
        turns = tuple(
            Turn(
                write_text(dice, dice.randint(*_OWN_TOKENS), count_tokens),
                dice.randint(*_SKEW_OUTPUT_TOKENS),
            )
            for _ in range(_SKEW_TURNS)
        )
        return Session(system=begin, turns=turns)

    sessions = tuple(session() for _ in range(num_sessions))
    return Workload(name="one beginning", is_chat=True, sessions=sessions)


def count_blocks(run: RunRecord) -> int:
    """Return the blocks of KV memory that hold all conversations of a run at their end once."""
    longest: dict[int, int] = {}
    for record in run.requests:
        # The last token of an answer was drawn and never taken in.
        num_tokens = record.num_prompt_tokens + record.num_output_tokens - 1
        longest[record.session] = max(longest.get(record.session, 0), num_tokens)
    return sum(-(-num_tokens // BLOCK_TOKENS) for num_tokens in longest.values())


def replicas_of(port: int) -> list[dict[str, Any]]:
    """Return what a server with one model says of each of its replicas.

    Raises:
        OSError: it does not say.
    """
    [model] = models_of(port)
    replicas: list[dict[str, Any]] = model["replicas"]
    return replicas


def imbalance_of(queues: Sequence[float]) -> float:
    """Return the longest queue over the mean; 1 where all are empty."""
    mean = statistics.fmean(queues)
    return max(queues) / mean if mean else 1.0


class QueueWatch:
    """Looks at the queues of a server's replicas while requests come.

    Attributes:
        samples: tokens that each replica had still to compute, as long as sessions began: after
            that the queues only drain, and no choice can even them out.
    """

    def __init__(self) -> None:
        self.samples: list[tuple[int, ...]] = []
        self._times_s: list[float] = []

    @property
    def means(self) -> list[float]:
        """The mean queue of each replica over all samples, in tokens."""
        return [statistics.fmean(queue) for queue in zip(*self.samples, strict=True)]

    def loaded(self, light_tokens: int) -> list[tuple[int, ...]]:
        """Return the samples in which replicas had more than a light queue on average."""
        return [queues for queues in self.samples if statistics.fmean(queues) > light_tokens]

    async def during(self, load: Awaitable[RunRecord], one: Running) -> RunRecord:
        """Watch until the load has ended; return what came of it."""
        watching = asyncio.create_task(self._watch(one.process.port))
        try:
            run = await load
        finally:
            watching.cancel()
        last_s = max(record.begin_s for record in run.requests if record.turn == 0)
        self.samples = self.samples[: bisect(self._times_s, last_s)]
        return run

    async def _watch(self, port: int) -> None:
        zero_s = time.perf_counter()
        while True:
            self._times_s.append(time.perf_counter() - zero_s)
            replicas = await asyncio.to_thread(replicas_of, port)
            self.samples.append(tuple(one["num_queued_tokens"] for one in replicas))
            await asyncio.sleep(_SAMPLE_EVERY_S)
