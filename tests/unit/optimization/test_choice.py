from __future__ import annotations

import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.choice import choose_engine
from mm_orch.optimization.engines.contract import Availability
from mm_orch.optimization.registry import engine_names, load_engine, probe_engine, probe_engines

ABSENT = Availability(engine="a", is_available=False, reason="not installed", remedy="pip a")
PRESENT = Availability(engine="b", is_available=True)
ALSO = Availability(engine="c", is_available=True)


def test_the_first_that_can_run_is_chosen_and_the_skipped_are_told() -> None:
    choice = choose_engine([ABSENT, PRESENT, ALSO])

    assert choice.engine == "b"
    assert choice.skipped == (ABSENT,)


def test_with_none_left_every_reason_and_remedy_is_told() -> None:
    with pytest.raises(EngineStartError, match=r"a: not installed \(pip a\)"):
        choose_engine([ABSENT])


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineStartError, match=r"'warp'.*echo, pytorch"):
        load_engine("warp")

    assert not probe_engine("warp").is_available


def test_engines_of_later_versions_say_that_they_are_not_built() -> None:
    reasons = {a.engine: a.reason for a in probe_engines() if not a.is_available}

    assert set(reasons) == {"vllm", "deepspeed", "openvino", "onnx"}
    assert set(reasons.values()) == {"not built in this version yet"}


def test_built_in_engines_are_known_without_an_installed_distribution() -> None:
    assert {"echo", "pytorch"} <= set(engine_names())
