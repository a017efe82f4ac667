"""Finds the OpenVINO model of a directory: the one it holds, or one written once and kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import FileLock

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.openvino.shape import read_shape
from mm_orch.optimization.engines.openvino.tensors import TensorFiles

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineSpec

logger = logging.getLogger(__name__)

MODEL_FILE = "openvino_model.xml"
_FACTS_FILE = "muai-openvino.json"
# Raised whenever what is written changes.
_FORMAT_VERSION = 1
# Left over by older exporters, and computed anew here.
_IGNORED_TENSORS = ("rotary_emb.inv_freq",)


class OpenVinoModel(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that OpenVINO GenAI can load.

    Attributes:
        directory: holds openvino_model.xml and .bin.
        weight_format: fp32, fp16, bf16, int8, int4, or "as shipped".
        is_own: written here, and so with shifted logits.
        window: tokens that a layer attends to where that is fewer than all, or None.
    """

    directory: str
    weight_format: str
    is_own: bool
    window: int | None = None


def ensure_model(spec: EngineSpec, *, fallback: str) -> OpenVinoModel:
    """Return the model's OpenVINO form, writing it first where it is not there yet.

    Args:
        spec: names directory, number format and where to keep what is written.
        fallback: number format for what ``auto`` cannot store smaller without loss.

    Raises:
        EngineStartError: the directory holds nothing that OpenVINO can run in this format.
    """
    directory = Path(spec.directory)
    if (directory / MODEL_FILE).exists():
        if spec.dtype in {"int8", "int4"}:
            raise EngineStartError(
                f"{directory} holds an OpenVINO model, whose weights stay as they are; {spec.dtype}"
                " is not made of them.",
                remedy="Set optimization.openvino.precision and the model's quantization to auto.",
            )
        return OpenVinoModel(directory=str(directory), weight_format="as shipped", is_own=False)
    kept = Path(spec.cache_directory) / "openvino" / _key(directory, spec.dtype, fallback)
    kept.parent.mkdir(parents=True, exist_ok=True)
    # Another worker may be writing the same: one of them does, the others wait.
    with FileLock(f"{kept}.lock"):
        facts = _read_facts(kept)
        if facts is None:
            facts = _write(spec, kept, fallback)
    _check_window(spec, facts.window)
    return facts


def _key(directory: Path, dtype: str, fallback: str) -> str:
    """Name the files, the library and the number format, so that a change of either is noticed."""
    files = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted([directory / "config.json", *directory.glob("*.safetensors")])
        if path.exists()
    ]
    library = importlib.metadata.version("openvino")
    parts = [_FORMAT_VERSION, library, dtype, fallback, str(directory.resolve()), files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read_facts(kept: Path) -> OpenVinoModel | None:
    try:
        return msgspec.json.decode((kept / _FACTS_FILE).read_bytes(), type=OpenVinoModel)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("%s cannot be read and is written anew: %s", kept, error)
        shutil.rmtree(kept, ignore_errors=True)
        return None


def _write(spec: EngineSpec, kept: Path, fallback: str) -> OpenVinoModel:
    import openvino as ov

    from mm_orch.optimization.engines.openvino.graph import build_decoder
    from mm_orch.optimization.engines.openvino.weights import WeightWriter

    begin_s = time.monotonic()
    directory = Path(spec.directory)
    shape = read_shape(directory)
    weights = WeightWriter(TensorFiles(directory), spec.dtype, fallback)
    model = build_decoder(shape, weights)
    unread = [name for name in sorted(weights.unread) if not name.endswith(_IGNORED_TENSORS)]
    if unread and not (shape.is_tied and unread == ["lm_head.weight"]):
        raise EngineStartError(
            f"{spec.model}: OpenVINO knows no place for {len(unread)} of its tensors, such as"
            f" {unread[0]}.",
            remedy="Use another engine, or a directory with openvino_model.xml.",
        )
    facts = OpenVinoModel(
        directory=str(kept), weight_format=weights.format_name, is_own=True, window=shape.window
    )
    draft = kept.with_name(f".draft-{os.getpid()}-{kept.name}")
    try:
        draft.mkdir()
        ov.save_model(model, draft / MODEL_FILE, compress_to_fp16=False)
        (draft / _FACTS_FILE).write_bytes(msgspec.json.encode(facts))
        draft.rename(kept)
    except (OSError, RuntimeError) as error:
        raise EngineStartError(
            f"{spec.model}: its OpenVINO form cannot be written to {kept}: {error}",
            remedy="Free disk space, or set system.data_dir to a folder that can be written.",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    logger.info(
        "%s: written for OpenVINO in %.1f s, weights in %s",
        spec.model,
        time.monotonic() - begin_s,
        facts.weight_format,
    )
    return facts


def _check_window(spec: EngineSpec, window: int | None) -> None:
    # A window that holds the whole context hides nothing.
    if window is not None and window < spec.context_length:
        raise EngineStartError(
            f"{spec.model} has layers that attend to the last {window} tokens only, which this"
            f" engine cannot do; its context is {spec.context_length} tokens.",
            remedy=f"Use another engine, or set models.{spec.model}.context_length to {window}.",
        )
