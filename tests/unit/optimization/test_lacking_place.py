"""What is done about an engine that finds no place."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mm_orch.core.errors import EngineStartError
from mm_orch.core.place_errors import NoPlaceError
from mm_orch.optimization.lacking_place import PAUSE_S, LackingPlaces

if TYPE_CHECKING:
    import pytest

NO_ROOM = NoPlaceError("no node had room")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_an_engine_without_a_place_asks_again_after_the_same_pause_each_time() -> None:
    clock = Clock()
    lacking = LackingPlaces("m", clock)
    for _ in range(5):
        assert lacking.take("a", NO_ROOM, begun_s=clock.now_s)
        assert lacking.find_wait_s("a") == PAUSE_S
        clock.now_s += PAUSE_S
        assert lacking.find_wait_s("a") == 0
    assert lacking.find_reason("a") == "no node had room"
    assert (lacking.find_reason("b"), lacking.find_wait_s("b")) == ("", 0)


def test_hope_ends_after_half_a_minute_of_it_all_however_long_the_tries_take() -> None:
    clock = Clock()
    lacking = LackingPlaces("m", clock)
    lacking.take("a", NO_ROOM, begun_s=clock.now_s - 10)
    assert not lacking.is_hopeless("a")
    clock.now_s += 20
    lacking.take("a", NO_ROOM, begun_s=clock.now_s)

    assert lacking.is_hopeless("a")
    lacking.forget("a")
    assert not lacking.is_hopeless("a")


def test_any_other_failure_is_the_engines_own() -> None:
    lacking = LackingPlaces("m", Clock())
    lacking.take("a", NO_ROOM, begun_s=0)

    assert not lacking.take("a", EngineStartError("it does not want to"), begun_s=0)
    assert lacking.find_reason("a") == ""


def test_only_the_first_of_many_tries_is_told(caplog: pytest.LogCaptureFixture) -> None:
    lacking = LackingPlaces("m", Clock())
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            lacking.take("a", NO_ROOM, begun_s=0)

    assert len(caplog.records) == 1
