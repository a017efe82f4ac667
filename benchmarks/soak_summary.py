"""What the figures of a soak are: how memory grows, what stays open, and whether counts agree."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.processes import OTHER, SERVER
from benchmarks.slopes import Series, estimate_slope
from benchmarks.soak_mix import EMBED, ROUGH, STEADY
from benchmarks.statistics import Verdict, judge_at_most, judge_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.processes import Life

MEMORY_BAR_MIB_PER_HOUR = {SERVER: 16.0, STEADY: 32.0, EMBED: 16.0}
# What a process may hold for a moment, such as the look at it.
MAX_MORE_DESCRIPTORS = 2

_HOUR_S = 3600.0
_YOUNG_S = 30.0
_MIN_AGE_S = 60.0
_MIN_GENERATIONS = 4
_MIN_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Stillness:
    """What a server holds while nobody asks it for anything.

    Attributes:
        num_processes: it and all that it has started.
        num_fds_by_name: open descriptors of each process, by its name.
    """

    num_processes: int
    num_fds_by_name: dict[str, int]

    @classmethod
    def of(cls, looks: Iterable[Sequence[Life]]) -> Stillness:
        """Take the least of several looks, so that what is open for a moment does not count."""
        fewest: dict[str, int] = {}
        num_processes = []
        for lives in looks:
            num_processes.append(len(lives))
            for life in lives:
                if life.name != OTHER:
                    fewest[life.name] = min(life.num_fds, fewest.get(life.name, life.num_fds))
        return cls(min(num_processes), fewest)


def note_memory(
    figures: dict[str, object], lives: Sequence[Life], begin_s: float
) -> dict[str, Verdict]:
    """Put slopes of memory into the results; return the verdicts on the bars.

    The server and the workers that nothing is done to live all the time, so theirs is one slope
    from the end of the warm-up on. Of the worker that is killed and unloaded, its lives stand for
    each other: the slope that they share by age, each with a level of its own, from the age of 30 s
    on and of lives of a minute or more; what they took at that age, least, median and most; and
    the slope of that by when each was born. These have no bar: a young worker still fills its
    caches, what it takes at that age hangs on the options drawn for it and on what it was asked
    until then, and an hour has a dozen such lives. Nothing of a process outlives it.

    Args:
        figures: of the results.
        lives: all processes that were seen.
        begin_s: when the warm-up was over.
    """
    verdicts = {}
    for name, bar in MEMORY_BAR_MIB_PER_HOUR.items():
        later = [life.memory.since(begin_s) for life in lives if life.name == name]
        own = [memory for memory in later if len(memory.values) >= _MIN_SAMPLES]
        if not own:
            verdicts[f"{name}_memory_is_flat"] = Verdict.NOT_SHOWN
            continue
        slope = estimate_slope(own, unit_s=_HOUR_S)
        figures[f"{name}_memory_mib_per_hour"] = slope.rounded
        figures[f"{name}_memory_first_mib"] = round(own[0].values[0], 1)
        figures[f"{name}_memory_last_mib"] = round(own[-1].values[-1], 1)
        figures[f"bar_{name}_memory_mib_per_hour"] = bar
        verdicts[f"{name}_memory_is_flat"] = judge_at_most(slope, bar)
    _note_generations(figures, lives)
    return verdicts


def count_lives(lives: Sequence[Life], name: str) -> int:
    """Return how many processes of this name there were."""
    return sum(life.name == name for life in lives)


def note_descriptors(
    figures: dict[str, object], before: Stillness, after: Stillness
) -> dict[str, Verdict]:
    """Put open descriptors and processes into the results; return the verdicts on the bars.

    Args:
        figures: of the results.
        before: after the warm-up.
        after: at the end.
    """
    verdicts = {}
    for name, num_before in before.num_fds_by_name.items():
        num_after = after.num_fds_by_name.get(name)
        figures[f"{name}_descriptors"] = [num_before, num_after]
        verdicts[f"{name}_descriptors"] = (
            Verdict.NOT_SHOWN
            if num_after is None
            else judge_value(num_after - num_before, MAX_MORE_DESCRIPTORS)
        )
    figures["processes"] = [before.num_processes, after.num_processes]
    figures["bar_more_descriptors"] = MAX_MORE_DESCRIPTORS
    verdicts["processes"] = judge_value(after.num_processes, before.num_processes)
    return verdicts


def _note_generations(figures: dict[str, object], lives: Sequence[Life]) -> None:
    grown = [life for life in lives if life.name == ROUGH and life.age_s >= _MIN_AGE_S]
    figures[f"{ROUGH}_num_generations"] = count_lives(lives, ROUGH)
    figures[f"{ROUGH}_num_generations_compared"] = len(grown)
    if len(grown) < _MIN_GENERATIONS:
        return
    adult = [life.memory.since(life.birth_s + _YOUNG_S) for life in grown]
    by_age = estimate_slope(adult, unit_s=_HOUR_S)
    at_that_age = Series.of(
        (life.birth_s, memory.values[0]) for life, memory in zip(grown, adult, strict=True)
    )
    by_birth = estimate_slope([at_that_age], unit_s=_HOUR_S)
    levels = (min(at_that_age.values), median(at_that_age.values), max(at_that_age.values))
    figures[f"{ROUGH}_memory_at_{_YOUNG_S:.0f}_s_mib"] = [round(level, 1) for level in levels]
    figures[f"{ROUGH}_memory_by_age_mib_per_hour"] = by_age.rounded
    figures[f"{ROUGH}_memory_by_birth_mib_per_hour"] = by_birth.rounded
