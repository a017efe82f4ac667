"""Whether what the console's tests make up is what the server would answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mm_orch.core.figures import Figures
from mm_orch.core.mind_report import MindReport
from mm_orch.core.observations import AlertsReport, RequestsReport
from mm_orch.core.tuning_report import TunerReport
from tests.e2e import console_answers as answers
from tests.e2e import mind_answer

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("make_up", "shape"),
    [
        (answers.metrics, Figures),
        (answers.alerts, AlertsReport),
        (answers.requests, RequestsReport),
        (answers.tuner, TunerReport),
        (mind_answer.mind, MindReport),
    ],
)
def test_made_up_answers_have_the_servers_shape(
    make_up: Callable[[], dict[str, Any]], shape: type[msgspec.Struct]
) -> None:
    written = msgspec.to_builtins(msgspec.convert(make_up(), shape))

    assert_within(make_up(), written)


def assert_within(part: Any, whole: Any) -> None:
    """Nothing is made up that the server does not answer."""
    match part:
        case dict():
            assert set(part) <= set(whole)
            for key, value in part.items():
                assert_within(value, whole[key])
        case list():
            for one, other in zip(part, whole, strict=True):
                assert_within(one, other)
        case _:
            assert part == whole
