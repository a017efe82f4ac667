"""Which number format a model gets, and that it is measured once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mm_orch.core.memory import Memory
from mm_orch.optimization.engines.pytorch import formats
from mm_orch.optimization.engines.pytorch.formats import FormatChooser
from mm_orch.optimization.engines.pytorch.native import build
from mm_orch.optimization.engines.pytorch.native.quantized import can_quantize
from tests.tiny_models import make_llama, snap_to_four_bits

if TYPE_CHECKING:
    import ctypes
    from pathlib import Path

    from mm_orch.optimization.engines.pytorch.formats import WeightFormat


@pytest.fixture(scope="module")
def library(compiled: Path) -> ctypes.CDLL:
    loaded = build.load_library(compiled)
    assert loaded is not None, "this machine has no C++ compiler"
    if not can_quantize(loaded, 32):
        pytest.skip("this processor does not multiply bf16")
    return loaded


def read(directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype="auto")


def choose(library: ctypes.CDLL, directory: Path, model: Any) -> WeightFormat:
    return FormatChooser(library, directory, has_fast_bf16=True).choose(model)


def set_times(monkeypatch: pytest.MonkeyPatch, **times_s: float) -> list[str]:
    """Have measuring give these times, and return what was measured."""
    measured: list[str] = []

    def measure(_: FormatChooser, one: WeightFormat, __: object) -> list[float]:
        measured.append(one.name)
        return [times_s[one.name]] * 6

    monkeypatch.setattr(FormatChooser, "_measure", measure)
    return measured


@pytest.mark.parametrize("fastest", ["fp32", "bf16", "int4"])
def test_the_fastest_of_those_that_lose_nothing_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL, fastest: str
) -> None:
    model = read(snap_to_four_bits(make_llama(tmp_path / "model")))
    set_times(monkeypatch, **{"fp32": 2.0, "bf16": 2.0, "int4": 2.0, fastest: 1.0})

    chosen = choose(library, tmp_path, model)

    assert chosen.name == fastest


# Seconds with 1, 2, 4, 8, 16 and 32 rows.
FEW = [1.0, 2.0, 2.0, 4.0, 2.0, 5.0]


@pytest.mark.parametrize(
    ("fp32", "memory", "name", "max_rows"),
    [(9.0, 10**12, "int4+bf16", 4), (9.0, 1000, "int4", None), (0.5, 10**12, "fp32", None)],
    ids=["two copies", "no memory for two", "plain is faster"],
)
def test_who_is_faster_with_few_rows_alone_gets_a_second_copy_for_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: ctypes.CDLL,
    fp32: float,
    memory: int,
    name: str,
    max_rows: int | None,
) -> None:
    model = read(snap_to_four_bits(make_llama(tmp_path / "model")))
    times_s = {"fp32": [fp32] * 6, "bf16": [3.0] * 6, "int4": FEW}
    monkeypatch.setattr(FormatChooser, "_measure", lambda _, one, __: times_s[one.name])
    monkeypatch.setattr(formats, "read_memory", lambda: Memory(0, memory))

    for _ in ("measured", "remembered"):
        chosen = choose(library, tmp_path, model)
        assert chosen.name == name
        assert (chosen.quantization and chosen.quantization.max_rows) == max_rows


def test_weights_that_would_lose_are_not_quantised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL
) -> None:
    measured = set_times(monkeypatch, fp32=2.0, bf16=1.0)
    model = read(make_llama(tmp_path / "model"))

    assert choose(library, tmp_path, model).name == "bf16"
    assert measured == ["fp32", "bf16"]


def test_without_fast_bf16_there_is_nothing_to_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = set_times(monkeypatch)
    model = read(make_llama(tmp_path / "model"))

    assert FormatChooser(None, tmp_path, has_fast_bf16=False).choose(model).name == "fp32"
    assert not measured


def test_what_was_measured_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL
) -> None:
    model = read(make_llama(tmp_path / "model"))
    first = set_times(monkeypatch, fp32=1.0, bf16=2.0)
    assert choose(library, tmp_path, model).name == "fp32"
    assert first

    again = set_times(monkeypatch, fp32=2.0, bf16=1.0)
    assert choose(library, tmp_path, model).name == "fp32"
    assert not again

    # Another number of threads is another machine.
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert choose(library, tmp_path, model).name == "bf16"
    finally:
        torch.set_num_threads(threads)
    assert again


@pytest.mark.parametrize(
    "content",
    ["", "no JSON", "[]", '{"a": 1}', '{"a": {"choice": "fp7"}}', '{"a": {"choice": "int4"}}'],
)
def test_a_damaged_memory_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL, content: str
) -> None:
    model = read(make_llama(tmp_path / "model"))
    set_times(monkeypatch, fp32=2.0, bf16=1.0)
    path = tmp_path / formats._FILE_NAME
    path.write_text(content)

    assert choose(library, tmp_path, model).name == "bf16"

    [remembered] = json.loads(path.read_text()).values()
    assert remembered["choice"] == "bf16"


def test_a_real_measurement_times_every_format(tmp_path: Path, library: ctypes.CDLL) -> None:
    model = read(snap_to_four_bits(make_llama(tmp_path / "model")))

    choose(library, tmp_path, model)

    [remembered] = json.loads((tmp_path / formats._FILE_NAME).read_text()).values()
    assert set(remembered["milliseconds"]) == {"fp32", "bf16", "int4"}
    assert all(len(times) == 6 and min(times) > 0 for times in remembered["milliseconds"].values())
