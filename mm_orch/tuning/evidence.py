"""Tells an effect from noise with the few windows there are.

The rule: the means of the windows before and after a change are compared by Student's t with the
windows' own pooled spread, which is taken to be no less than 1% of the mean. An effect counts when
it is at least 3% and t exceeds the 1-in-2,000 quantile (one-sided) for its degrees of freedom: so
strict, because one trial is looked at several times, and many trials are made. An effect of 3% is
ruled out when it lies two standard errors above what is seen.
"""

from __future__ import annotations

import enum
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_MIN_EFFECT = 0.03
_LEAST_SPREAD = 0.01
_FUTILE_ERRORS = 2.0
# Student's t at 0.9995, by degrees of freedom from 1 on; the last stands for all greater ones.
_T_QUANTILES = (
    *(636.6, 31.6, 12.92, 8.61, 6.87, 5.96, 5.41, 5.04, 4.78, 4.59),
    *(4.44, 4.32, 4.22, 4.14, 4.07, 4.01, 3.97, 3.92, 3.88, 3.85),
)


class Effect(enum.Enum):
    """What the windows show."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Comparison:
    """An effect, and by which share the mean changed."""

    effect: Effect
    change_ratio: float


def compare(before: Sequence[float], after: Sequence[float]) -> Comparison:
    """Compare a figure's values before and after a change; greater is better.

    Args:
        before: one value a window, at least one.
        after: alike; with fewer than three in all, nothing can be told.
    """
    mean_before, mean_after = statistics.fmean(before), statistics.fmean(after)
    scale = max(abs(mean_before), 1e-9)
    change_ratio = (mean_after - mean_before) / scale
    freedom = len(before) + len(after) - 2
    if freedom < 1:
        return Comparison(Effect.UNCLEAR, change_ratio)
    squares = sum((value - mean_before) ** 2 for value in before)
    squares += sum((value - mean_after) ** 2 for value in after)
    spread = max(math.sqrt(squares / freedom), _LEAST_SPREAD * scale)
    error = spread * math.sqrt(1 / len(before) + 1 / len(after))
    t = (mean_after - mean_before) / error
    is_shown = abs(t) > _T_QUANTILES[min(freedom, len(_T_QUANTILES)) - 1]
    if not is_shown or abs(change_ratio) < _MIN_EFFECT:
        is_ruled_out = change_ratio + _FUTILE_ERRORS * error / scale < _MIN_EFFECT
        return Comparison(Effect.NONE if is_ruled_out else Effect.UNCLEAR, change_ratio)
    return Comparison(Effect.BETTER if t > 0 else Effect.WORSE, change_ratio)
