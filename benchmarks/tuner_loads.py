"""Loads that change from window to window, and what came of them in each."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.statistics import percentile
from mm_orch.benchmarking.vocabulary import write_text
from mm_orch.benchmarking.workloads import Session, Turn, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mm_orch.benchmarking.records import RunRecord
    from mm_orch.benchmarking.vocabulary import CountTokens

PROMPT_TOKENS = (16, 48)
OUTPUT_TOKENS = (32, 64)
_MIN_JUDGED = 5
"""Fewer answers say nothing of a window's p95; the tuner holds it alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How long a run is.

    Attributes:
        window_s: of the tuner, and of what is reported here.
        num_windows: of the whole run.
        num_judged: the last ones, of which goodput is compared; even.
        high: requests a second, more than any setting can serve.
        low: few, which any setting serves.
    """

    window_s: float
    num_windows: int
    num_judged: int
    high: float
    low: float


def steady(shape: Shape) -> list[float]:
    """Return the high rate for each window."""
    return [shape.high] * shape.num_windows


def rising(shape: Shape) -> list[float]:
    """Return rates that rise from low to high, where they are by the windows that are judged."""
    num_rising = shape.num_windows - shape.num_judged
    step = (shape.high - shape.low) / max(1, num_rising)
    return [min(shape.high, shape.low + step * number) for number in range(shape.num_windows)]


def alternating(shape: Shape) -> list[float]:
    """Return low and high in turn; what is judged is one period, low and then high."""
    half = shape.num_judged // 2
    return [
        shape.high if (shape.num_windows - number - 1) // half % 2 == 0 else shape.low
        for number in range(shape.num_windows)
    ]


LOADS: dict[str, Callable[[Shape], list[float]]] = {
    one.__name__: one for one in (steady, rising, alternating)
}


def due_times(rates: Sequence[float], window_s: float, *, seed: int) -> list[float]:
    """Return when requests come: a Poisson process with its own rate in each window, in seconds."""
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    times_s: list[float] = []
    for number, rate in enumerate(rates):
        begin_s = number * window_s
        now_s = begin_s + dice.expovariate(rate)
        while now_s < begin_s + window_s:
            times_s.append(now_s)
            now_s += dice.expovariate(rate)
    return times_s


def make_chats(num_chats: int, *, seed: int, count_tokens: CountTokens, texts: int = 0) -> Workload:
    """Make short chats, each of its own length; the same arguments give the same texts.

    Args:
        num_chats: how many.
        seed: of their lengths.
        count_tokens: of a text.
        texts: seed of what they say: runs are alike in all but that, so that none finds the
            prompts of the one before it in a cache.
    """
    dice = random.Random(f"chats {seed}")  # noqa: S311 - reproducible on purpose
    words = random.Random(f"texts {seed} {texts}")  # noqa: S311 - reproducible on purpose
    return Workload(
        name="chats",
        is_chat=True,
        sessions=tuple(
            Session(
                turns=(
                    Turn(
                        write_text(words, dice.randint(*PROMPT_TOKENS), count_tokens),
                        dice.randint(*OUTPUT_TOKENS),
                    ),
                )
            )
            for _ in range(num_chats)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What ended in a window, as clients saw it.

    Attributes:
        num_answered: requests.
        num_refused: turned away for load.
        p95_s: from when a request was due to its end; None of fewer than five.
        good_tokens_per_s: generated in answers within the target.
    """

    num_answered: int
    num_refused: int
    p95_s: float | None
    good_tokens_per_s: float


def windows_of(run: RunRecord, window_s: float, num_windows: int, target_s: float) -> list[Window]:
    """Return the windows of a run, the first beginning with it."""
    windows = []
    for number in range(num_windows):
        ended = [
            record
            for record in run.requests
            if number * window_s <= record.end_s < (number + 1) * window_s
        ]
        answered = [record for record in ended if record.error is None]
        totals_s = [record.total_s for record in answered]
        num_tokens = sum(
            record.num_output_tokens for record in answered if record.total_s <= target_s
        )
        windows.append(
            Window(
                num_answered=len(answered),
                num_refused=sum(record.is_turned_away for record in ended),
                p95_s=percentile(totals_s, 0.95) if len(totals_s) >= _MIN_JUDGED else None,
                good_tokens_per_s=num_tokens / window_s,
            )
        )
    return windows


def goodput(windows: Sequence[Window]) -> float:
    """Return the tokens a second in answers within the target."""
    return sum(window.good_tokens_per_s for window in windows) / len(windows)


def longest_over(windows: Sequence[Window], target_s: float) -> int:
    """Return the most windows in a row with p95 over the target, once it has been met."""
    known = [window.p95_s for window in windows if window.p95_s is not None]
    met = list(itertools.dropwhile(lambda p95_s: p95_s > target_s, known))
    runs = (list(run) for _, run in itertools.groupby(met, lambda p95_s: p95_s > target_s))
    return max((len(run) for run in runs if run[0] > target_s), default=0)


def climb(values: Sequence[int], begin: int, find: Callable[[int], float]) -> int:
    """Return the value from which neither neighbour leads higher.

    Args:
        values: in order.
        begin: index of the first that is asked for.
        find: gives what a value is worth; asked again for values it has given.
    """
    while True:
        near = range(max(0, begin - 1), min(len(values), begin + 2))
        best = max(near, key=lambda index: find(values[index]))
        if find(values[best]) <= find(values[begin]):
            return values[begin]
        begin = best
