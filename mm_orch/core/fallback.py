"""What is told when another engine answers than the preferred one, or goes on for a lost one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model runs on another engine than the preferred one, and why."""

    wanted: str
    engine: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failover:
    """A request went on elsewhere.

    Attributes:
        from_engine: that lost it.
        to_engine: that went on; the same name when that was started anew.
        num_delivered_tokens: generated before, over all choices.
        reason: the error, for people, in one line.
    """

    from_engine: str
    to_engine: str
    num_delivered_tokens: int
    reason: str
