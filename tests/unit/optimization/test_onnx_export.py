"""Exports on disk: when they are made, and what becomes of them when something goes wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.onnx import export_cache
from mm_orch.optimization.engines.onnx.backend import OnnxBackend
from mm_orch.optimization.engines.onnx.export_cache import ExportCache, ExportRecord
from mm_orch.optimization.engines.onnx.formats import FORMATS
from mm_orch.optimization.engines.onnx.shape import DecoderShape
from tests.stepping import greedy, spec_of
from tests.tiny_models import make_llama

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.optimization.engines.contract import EngineSpec

pytest.importorskip("onnxruntime")

SHAPE = DecoderShape(
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    vocab_size=10,
    window=None,
    windowed_layers=(False,),
)


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    return spec_of(make_llama(tmp_path / "llama"))


def write_something(folder: Path) -> ExportRecord:
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "weights.bin").write_bytes(b"weights")
    return ExportRecord(shape=SHAPE, num_positions=16, deviation=0.0)


def fail(folder: Path) -> ExportRecord:
    (folder / "weights.bin").write_bytes(b"half")
    raise EngineStartError("the export failed")


def refuse(folder: Path) -> ExportRecord:
    raise AssertionError(f"{folder}: there is an export already")


def left_in(cache: ExportCache) -> list[str]:
    """Everything beside the lock."""
    return sorted(path.name for path in cache.directory.parent.iterdir() if path.suffix != ".lock")


def test_an_export_is_made_once(spec: EngineSpec) -> None:
    first = ExportCache(spec, "fp32").ensure(write_something)
    second = ExportCache(spec, "fp32").ensure(refuse)

    assert first == second
    assert second.graph.read_bytes() == b"graph"


def test_a_start_from_the_disk_imports_nothing_of_the_exporter(spec: EngineSpec) -> None:
    backend = OnnxBackend()
    facts = backend.start(spec)
    expected = greedy(backend.step, [5, 6, 7], 4, 100)
    backend.stop()
    code = (
        "import sys, json, msgspec\n"
        "from mm_orch.optimization.engines.contract import EngineSpec\n"
        "from mm_orch.optimization.engines.onnx.backend import OnnxBackend\n"
        "from tests.stepping import greedy\n"
        "backend = OnnxBackend()\n"
        "facts = backend.start(msgspec.json.decode(sys.argv[1], type=EngineSpec))\n"
        "found = [name for name in ('transformers', 'onnx') if name in sys.modules]\n"
        "print(json.dumps([facts.dtype, greedy(backend.step, [5, 6, 7], 4, 100), found]))\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", code, msgspec.json.encode(spec).decode()],
        capture_output=True,
        check=True,
        text=True,
    )

    assert json.loads(said.stdout) == [facts.dtype, expected, []]


def test_other_files_formats_and_versions_make_another_export(
    spec: EngineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {ExportCache(spec, "fp32").directory, ExportCache(spec, "int4").directory}
    other = msgspec.structs.replace(spec, model="a/name of another")
    folders.add(ExportCache(other, "fp32").directory)
    config = tmp_path / "llama" / "config.json"
    config.write_text(config.read_text() + "\n")
    folders.add(ExportCache(spec, "fp32").directory)
    monkeypatch.setattr(export_cache, "_LIBRARIES", ("onnxruntime",))
    folders.add(ExportCache(spec, "fp32").directory)
    monkeypatch.setattr(export_cache, "_EXPORTER_VERSION", -1)
    folders.add(ExportCache(spec, "fp32").directory)

    assert len(folders) == 6
    assert {folder.parent for folder in folders} == {tmp_path / "compiled" / "onnx"}


def test_a_failed_export_leaves_nothing_behind(spec: EngineSpec, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "llama").iterdir()}
    cache = ExportCache(spec, "fp32")

    with pytest.raises(EngineStartError, match="the export failed"):
        cache.ensure(fail)

    assert left_in(cache) == []
    assert {path: path.read_bytes() for path in (tmp_path / "llama").iterdir()} == before
    assert cache.ensure(write_something).directory == cache.directory


def test_an_export_that_deviates_from_pytorch_is_thrown_away(
    spec: EngineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "int4", dataclasses.replace(FORMATS["int4"], max_deviation=1e-9))

    with pytest.raises(
        EngineStartError, match=r"in int4 .* thrown away.* deviate .* allowed are 1e-09"
    ):
        OnnxBackend().start(msgspec.structs.replace(spec, dtype="int4"))

    assert left_in(ExportCache(spec, "int4")) == []


@pytest.mark.parametrize("dtype", sorted(FORMATS))
def test_the_deviation_from_pytorch_is_kept_with_the_export(spec: EngineSpec, dtype: str) -> None:
    spec = msgspec.structs.replace(spec, dtype=dtype)
    backend = OnnxBackend()
    backend.start(spec)
    backend.stop()

    record = ExportCache(spec, dtype).ensure(refuse).record

    assert 0 < record.deviation < FORMATS[dtype].max_deviation
    assert record.shape.num_layers == 2


def cut_weights(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"weigh")


def change_graph(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"grapes"[:5])


def lose_graph(folder: Path) -> None:
    (folder / "model.onnx").unlink()


def spoil_record(folder: Path) -> None:
    (folder / "export.json").write_text("{")


@pytest.mark.parametrize("damage", [cut_weights, change_graph, lose_graph, spoil_record])
def test_a_damaged_export_is_made_anew(
    spec: EngineSpec, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(ExportCache(spec, "fp32").ensure(write_something).directory)

    stored = ExportCache(spec, "fp32").ensure(write_something)

    assert stored.graph.read_bytes() == b"graph"
    assert (stored.directory / "weights.bin").read_bytes() == b"weights"
    assert "anew" in caplog.text
    assert ExportCache(spec, "fp32").ensure(refuse) == stored


def test_what_a_killed_worker_left_is_removed(spec: EngineSpec) -> None:
    cache = ExportCache(spec, "fp32")
    draft = cache.directory.with_name(f".draft-{cache.directory.name}-abc")
    draft.mkdir(parents=True)
    (draft / "weights.bin").write_bytes(b"half")

    cache.ensure(write_something)

    assert left_in(cache) == [cache.directory.name]


def test_two_workers_at_once_make_one_export(spec: EngineSpec) -> None:
    begun, other_waits = [], threading.Event()

    def export(folder: Path) -> ExportRecord:
        begun.append(folder)
        # The other is on its way to the lock, or behind it; it has to wait in both cases.
        other_waits.wait(timeout=60)
        return write_something(folder)

    found = []
    first = threading.Thread(target=lambda: found.append(ExportCache(spec, "fp32").ensure(export)))

    def second_worker() -> None:
        other_waits.set()
        found.append(ExportCache(spec, "fp32").ensure(export))

    second = threading.Thread(target=second_worker)
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join(timeout=60)

    assert len(begun) == 1
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_full_disk_is_named_and_nothing_stays(spec: EngineSpec) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this, as if no space were left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(EngineStartError, match=r"written to .*Free are .* MiB") as refusal:
            OnnxBackend().start(spec)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "set system.data_dir to" in str(refusal.value)
    assert left_in(ExportCache(spec, "fp32")) == []
