"""Keeps exports on disk: one folder for each model, number format and set of versions.

onnx/<model>-<dtype>-<key>/   model.onnx, weights.bin, export.json
onnx/<model>-<dtype>-<key>.lock
onnx/.draft-<...>/            an export in the making, renamed when it is complete and checked
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import filelock
import msgspec

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.onnx.shape import DecoderShape

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.optimization.engines.contract import EngineSpec

logger = logging.getLogger(__name__)

GRAPH_NAME = "model.onnx"
WEIGHTS_NAME = "weights.bin"
_RECORD_NAME = "export.json"
# To be raised with every change of what the exporter writes.
_EXPORTER_VERSION = 1
_LIBRARIES = ("onnxruntime", "onnx", "torch", "transformers")
# Longer than any honest export; below the time that the server gives a worker to load.
_LOCK_TIMEOUT_S = 1500.0


class GraphRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is written beside an export of any kind.

    Attributes:
        file_sizes: bytes of each file, to notice damage.
        graph_digest: SHA-256 of the graph; that of all weights would take too long at a start.
    """

    file_sizes: dict[str, int] = {}
    graph_digest: str = ""


class ExportRecord(GraphRecord, frozen=True, kw_only=True):
    """What is written beside the export of a decoder.

    Attributes:
        shape: of the decoder.
        num_positions: positions that it has rotations for.
        deviation: of its logits from PyTorch's, as formats.WeightFormat defines it.
    """

    shape: DecoderShape
    num_positions: int
    deviation: float


R = TypeVar("R", bound=GraphRecord)


@dataclass(frozen=True, slots=True)
class StoredExport(Generic[R]):
    """A complete export."""

    directory: Path
    record: R

    @property
    def graph(self) -> Path:
        """The file to load."""
        return self.directory / GRAPH_NAME


class GraphCache(Generic[R]):
    """The export of one model in one number format.

    Args:
        spec: names the model's folder and the cache directory.
        dtype: the format's name.
        record_type: what is written beside it.
    """

    def __init__(self, spec: EngineSpec, dtype: str, record_type: type[R]) -> None:
        self._spec = spec
        self._record_type = record_type
        self._root = Path(spec.cache_directory) / "onnx"
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", spec.model).strip(".")[:64]
        self._name = f"{readable}-{dtype}-{_make_key(spec, dtype, record_type)}"
        self.directory = self._root / self._name

    def ensure(self, export: Callable[[Path], R]) -> StoredExport[R]:
        """Return the export, having ``export`` fill an empty folder where there is none.

        Of several workers one exports and the others wait for it.

        Raises:
            EngineStartError: it failed, or the disk is full; nothing of it stays behind.
        """
        stored = self._find()
        if stored is not None:
            return stored
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(self._root / f"{self._name}.lock", timeout=_LOCK_TIMEOUT_S):
                return self._find() or self._make(export)
        except filelock.Timeout as error:
            raise EngineStartError(
                f"{self._spec.model}: another worker has held {error.lock_file} for"
                f" {_LOCK_TIMEOUT_S:g} s.",
                remedy="End it, then start again.",
            ) from error
        except OSError as error:
            raise self._explain(error) from error

    def _find(self) -> StoredExport[R] | None:
        path = self.directory / _RECORD_NAME
        try:
            record = msgspec.json.decode(path.read_bytes(), type=self._record_type)
            sizes = {name: (self.directory / name).stat().st_size for name in record.file_sizes}
            digest = _digest(self.directory / GRAPH_NAME)
        except FileNotFoundError:
            if self.directory.exists():
                logger.warning("%s is not complete and is made anew", self.directory)
            return None
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s cannot be read and is made anew: %s", path, error)
            return None
        if sizes != record.file_sizes or digest != record.graph_digest:
            logger.warning("%s is damaged and is made anew", self.directory)
            return None
        return StoredExport(self.directory, record)

    def _make(self, export: Callable[[Path], R]) -> StoredExport[R]:
        prefix = f".draft-{self._name}-"
        for left in self._root.glob(f"{prefix}*"):
            # Of a worker that was killed: whoever works here holds the lock.
            shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(dir=self._root, prefix=prefix))
        try:
            record = export(draft)
            sizes = {path.name: path.stat().st_size for path in draft.iterdir()}
            record = msgspec.structs.replace(
                record, file_sizes=sizes, graph_digest=_digest(draft / GRAPH_NAME)
            )
            (draft / _RECORD_NAME).write_bytes(msgspec.json.encode(record))
            # What stands there is damaged.
            shutil.rmtree(self.directory, ignore_errors=True)
            draft.rename(self.directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return StoredExport(self.directory, record)

    def _explain(self, error: OSError) -> EngineStartError:
        free_mb = shutil.disk_usage(self._root if self._root.exists() else "/").free >> 20
        model_mb = sum(size for _, size, _ in _list_files(self._spec.directory)) >> 20
        return EngineStartError(
            f"{self._spec.model}: its export cannot be written to {self._root}: {error}. Free are"
            f" {free_mb} MiB; the model has {model_mb} MiB, its export in fp32 up to twice that.",
            remedy="Free disk space, or set system.data_dir to a larger disk.",
        )


class ExportCache(GraphCache[ExportRecord]):
    """The export of a decoder."""

    def __init__(self, spec: EngineSpec, dtype: str) -> None:
        super().__init__(spec, dtype, ExportRecord)


def _make_key(spec: EngineSpec, dtype: str, record_type: type[GraphRecord]) -> str:
    parts = [
        _EXPORTER_VERSION,
        record_type.__name__,
        dtype,
        _list_files(spec.directory),
        {name: _find_version(name) for name in _LIBRARIES},
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _list_files(directory: str) -> list[tuple[str, int, int]]:
    """Return name, size and time of each file that an export is made of."""
    # Of embedding models also those that say how vectors are made.
    patterns = ("config.json", "*.safetensors", "modules.json", "*_*/config.json")
    paths = [path for pattern in patterns for path in sorted(Path(directory).glob(pattern))]
    return [
        (str(path.relative_to(directory)), path.stat().st_size, path.stat().st_mtime_ns)
        for path in paths
    ]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _find_version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
