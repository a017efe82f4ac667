"""What is told of changes to the configuration while the server runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

ChangeSource = Literal["admin", "file", "signal", "tuner"]
"""Who changes options: an admin's call, a changed file, SIGHUP, the tuner."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One option that got another value.

    Attributes:
        path: its dotted key.
        reason: for people; may be empty.
        when: ISO 8601 in UTC.
    """

    path: str
    old: Any
    new: Any
    source: ChangeSource
    reason: str
    when: str


class LiveOption(msgspec.Struct, frozen=True, kw_only=True):
    """An option that may be changed while the server runs.

    Attributes:
        value: in force now.
        origin: who set it: a file, a variable, the command line, the default or a change's source.
        allowed: what it must be, in words.
    """

    path: str
    value: Any
    origin: str
    allowed: str


class WorkerInForce(msgspec.Struct, frozen=True, kw_only=True):
    """What a running worker goes by, as it has said last.

    Attributes:
        kv_target_bytes: the bound on its keys and values; None where it does not say.
        kv_actual_bytes: what these take or may take until a lower bound has had its effect.
    """

    model: str
    engine: str
    max_batch_size: int
    min_batch_size: int
    batch_timeout_ms: int
    max_batch_tokens: int
    kv_target_bytes: int | None
    kv_actual_bytes: int | None


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """All options that may be changed while the server runs, and the last changes, newest first."""

    options: tuple[LiveOption, ...]
    workers: tuple[WorkerInForce, ...]
    history: tuple[Change, ...]


class ChangeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a call has changed; nothing where all values were in force already."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationChanged:
    """An option has got another value while the server runs; ``path`` is its dotted key."""

    path: str
    source: ChangeSource
