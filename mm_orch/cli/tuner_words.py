"""What the tuner says of itself, in words for a terminal."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from mm_orch.cli.words import name_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mm_orch.core.tuning_report import TunerReport, TuningDecision

TUNER_OFF = "off (optimization.tuner.enabled is false)"
"""What is said where nothing is tuned."""


def name_target(tuner: TunerReport) -> str:
    """Return what p95 must keep."""
    if tuner.target_p95_ms is None:
        return "no target for p95"
    return f"p95 at most {tuner.target_p95_ms:g} ms"


def list_values(tuner: TunerReport) -> list[str]:
    """Return each tuned option with its value in force, and what is tried of them."""
    return [
        f"{_name(key)} {value}"
        + (f" (on trial, before {tuner.on_trial[key]})" if key in tuner.on_trial else "")
        for key, value in tuner.values.items()
    ]


def tell_notes(tuner: TunerReport, at: datetime) -> Iterator[str]:
    """Yield the last decision and what is left alone, a line each.

    Args:
        tuner: with its decisions, the newest first.
        at: now, with its time zone.
    """
    if not tuner.decisions:
        yield "nothing decided since the server started"
    for decision in tuner.decisions[:1]:
        # Another machine's clock may be ahead.
        age_s = max(0.0, (at - datetime.fromisoformat(decision.at)).total_seconds())
        yield f"last decision {name_duration(age_s)} ago: {_tell(decision)}"
    if tuner.switched_off:
        yield f"left alone, as the configuration says: {_list(tuner.switched_off)}"
    if tuner.left_alone:
        yield f"left alone, as the engine cannot change it: {_list(tuner.left_alone)}"


def _tell(decision: TuningDecision) -> str:
    changes = ", ".join(
        f"{_name(key)} {decision.old_values[key]} -> {value}"
        for key, value in decision.new_values.items()
    )
    kind = decision.kind.replace("_", " ")
    # A reason may name the change itself.
    subject = f" {changes}" if changes and changes not in decision.rationale else ""
    return f"{kind}{subject}: {decision.rationale}"


def _list(keys: Iterable[str]) -> str:
    return ", ".join(map(_name, keys))


def _name(key: str) -> str:
    return key.rpartition(".")[2]
