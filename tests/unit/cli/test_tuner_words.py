from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.cli.tuner_words import list_values, name_target, tell_notes
from tests.unit.cli.scripted_server import TUNER

if TYPE_CHECKING:
    from mm_orch.core.tuning_report import TunerReport

AT = datetime(2026, 1, 3, 3, 4, 5, tzinfo=UTC)


def tuner_that(**values: object) -> TunerReport:
    return msgspec.structs.replace(TUNER, switched_off=(), left_alone=(), **values)


def deciding(**values: object) -> TunerReport:
    return tuner_that(decisions=(msgspec.structs.replace(TUNER.decisions[0], **values),))


def test_no_target_and_nothing_decided_are_told() -> None:
    tuner = tuner_that(target_p95_ms=None, on_trial={}, decisions=())

    assert name_target(tuner) == "no target for p95"
    assert list_values(tuner)[0] == "max_batch_size 16"
    assert list(tell_notes(tuner, AT)) == ["nothing decided since the server started"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"kind": "keep", "rationale": "it helps: +46% over 2 windows"},
            "keep max_batch_size 8 -> 16: it helps: +46% over 2 windows",
        ),
        (
            {"kind": "roll_back", "rationale": "it does harm"},
            "roll back max_batch_size 8 -> 16: it does harm",
        ),
        (
            {"kind": "rest", "old_values": {}, "new_values": {}, "rationale": "nothing more"},
            "rest: nothing more",
        ),
    ],
)
def test_a_decision_is_told_with_its_change_where_its_reason_does_not_name_it(
    values: dict[str, object], words: str
) -> None:
    assert list(tell_notes(deciding(**values), AT)) == [f"last decision 2 min 5 s ago: {words}"]


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    [note] = tell_notes(deciding(at="2026-01-03T04:00:00+00:00"), AT)

    assert note.startswith("last decision 0 s ago: ")
