"""How figures are written for people: durations, sizes, shares and rates."""

from __future__ import annotations

NONE = "-"
"""Stands for a figure that nothing has been measured for."""

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_BYTES_PER_MB = 10**6
_BYTES_PER_GB = 10**9
# From here on, a decimal says nothing more.
_WHOLE_FROM = 100


def name_duration(seconds: float) -> str:
    """Return the largest unit of a duration and the next one, such as ``2 h 5 min``."""
    whole = int(seconds)
    for unit_s, unit, part_s, part in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "min"),
        (_MINUTE_S, "min", 1, "s"),
    ):
        if whole >= unit_s:
            rest = whole % unit_s // part_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def name_latency(seconds: float | None) -> str:
    """Return a short time in milliseconds, or in seconds from one on."""
    if seconds is None:
        return NONE
    milliseconds = seconds * 1000
    if milliseconds < 10:  # noqa: PLR2004 - below it, the first decimal counts
        return f"{milliseconds:.1f} ms"
    return f"{milliseconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def name_size(num_bytes: int | None) -> str:
    """Return a size in megabytes, or in gigabytes from one on."""
    if num_bytes is None:
        return NONE
    if num_bytes >= _BYTES_PER_GB:
        return f"{num_bytes / _BYTES_PER_GB:.1f} GB"
    return f"{num_bytes / _BYTES_PER_MB:.0f} MB"


def name_ratio(ratio: float | None) -> str:
    """Return a share in percent."""
    return NONE if ratio is None else f"{ratio:.0%}"


def name_number(value: float | None) -> str:
    """Return a rate or a mean, with a decimal where it is small."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < _WHOLE_FROM else f"{value:.0f}"
