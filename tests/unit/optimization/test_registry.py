from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.registry import engine_names, load_engine, probe_engine, probe_engines

if TYPE_CHECKING:
    from pathlib import Path


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineStartError, match=r"'warp'.*pytorch.*echo"):
        load_engine("warp")

    assert not probe_engine("warp").is_available


def test_every_engine_that_cannot_run_here_says_why_and_what_helps() -> None:
    probes = {availability.engine: availability for availability in probe_engines()}

    assert {"vllm", "deepspeed", "openvino", "onnx", "pytorch"} <= set(probes)
    assert "echo" not in probes
    for probe in probes.values():
        assert probe.is_available or (probe.reason and probe.remedy)


def test_built_in_engines_are_known_without_an_installed_distribution() -> None:
    assert {"echo", "openvino", "pytorch"} <= set(engine_names())


@pytest.mark.parametrize("name", ["openvino", "vllm", "deepspeed"])
def test_an_engine_that_does_not_embed_says_so(name: str) -> None:
    told = probe_engine(name, "embed")

    assert not told.is_available
    assert told.reason == f"{name} does not run embedding models here"


def test_an_engine_may_embed_in_another_interpreter() -> None:
    there = probe_engine("pytorch", "embed", python=sys.executable)

    assert there == probe_engine("pytorch", "embed")


def test_another_interpreter_is_asked_itself() -> None:
    assert probe_engine("echo", python=sys.executable) == probe_engine("echo")


def test_an_interpreter_that_is_none_is_told_with_the_way_out(tmp_path: Path) -> None:
    there_is_none = probe_engine("vllm", python=str(tmp_path / "python"))
    says_nothing = probe_engine("vllm", python="/bin/false")

    for told in (there_is_none, says_nothing):
        assert not told.is_available
        assert "cannot" in told.reason
        assert "optimization.vllm.python" in told.remedy
