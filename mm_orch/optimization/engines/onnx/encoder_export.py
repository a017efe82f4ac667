"""Exports a text model with its recipe to ONNX, once, and checks the graph against PyTorch.

torch.onnx traces the module that the PyTorch engine runs, pooling and normalisation included, for
any number and length of texts. An export is kept only if its vectors are PyTorch's.
"""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.embedding import pad
from mm_orch.optimization.engines.onnx.encoder_graph import EncoderRecord
from mm_orch.optimization.engines.onnx.export_cache import GRAPH_NAME
from mm_orch.optimization.engines.pytorch.encoder import load_encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.pytorch.encoder import Encoder

logger = logging.getLogger(__name__)

# Beyond, weights do not fit into the graph's own file.
_MAX_INLINE_BYTES = 1 << 30
_MIN_COSINE = {"fp32": 0.9999, "int8": 0.95}
# As a share of the largest component.
_MAX_ERROR_RATIO = 1e-3
_SAMPLES = (
    "hello",
    "The cat sits on the mat.",
    "What is the capital of France?",
    "Invoice 2023-07: total due 1,299.00 EUR within 30 days.",
    "def add(a, b): return a + b",
    "Ein Satz auf Deutsch, une phrase en français, 一个中文句子。",
    "The mitochondria is the powerhouse of the cell, and so on. " * 40,
)


def export_encoder(spec: EngineSpec, dtype: str, folder: Path) -> EncoderRecord:
    """Write the graph into an empty folder and return what is known of it.

    Args:
        spec: the model.
        dtype: fp32, or int8 for weights quantised a channel and activations as they come.
        folder: where to.

    Raises:
        EngineStartError: the model cannot be exported, or the graph computes something else.
    """
    begin_s = time.monotonic()
    torch.set_num_threads(spec.num_threads)
    encoder = load_encoder(spec, torch.float32)
    path = folder / GRAPH_NAME
    with _quiet():
        _export(spec, encoder, path)
        if dtype == "int8":
            _quantize(path)
    record = _compare(spec, encoder, path)
    _refuse_disagreement(spec, dtype, record)
    logger.info("%s: exported to ONNX in %.1f s", spec.model, time.monotonic() - begin_s)
    return record


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the libraries say of every node, and of their own future, out of the log."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _export(spec: EngineSpec, encoder: Encoder, path: Path) -> None:
    # Sizes of one would be taken for constants.
    token_ids = torch.full((3, 8), encoder.padding_id)
    mask = torch.ones_like(token_ids)
    mask[1, 5:] = 0
    axes = {0: "num_texts", 1: "width"}
    num_bytes = sum(weight.nbytes for weight in encoder.parameters())
    try:
        program = torch.onnx.export(
            encoder,
            (token_ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["vectors"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise EngineStartError(f"{spec.model}: torch.onnx gave no program.")
        program.save(path, external_data=num_bytes > _MAX_INLINE_BYTES)
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        raise EngineStartError(
            f"{spec.model}: {type(encoder.model).__name__} cannot be exported to ONNX: {error}",
            remedy=f"Set models.{spec.model}.engines to [pytorch].",
        ) from error


def _quantize(path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    exact = path.with_name("exact.onnx")
    path.rename(exact)
    # With one scale a matrix, MiniLM's cosine falls from 0.98 to 0.93.
    quantize_dynamic(exact, path, per_channel=True)
    exact.unlink()


def _compare(spec: EngineSpec, encoder: Encoder, path: Path) -> EncoderRecord:
    codec = TextCodec.from_directory(Path(spec.directory))
    texts = [codec.encode_text(text)[: spec.context_length] for text in _SAMPLES]
    batches = [[text] for text in texts] + [texts]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    cosines: list[NDArray[np.float32]] = []
    errors: list[float] = []
    max_component = 0.0
    for batch in batches:
        token_ids, mask = pad(batch, padding_id=encoder.padding_id, max_width=spec.context_length)
        [found] = session.run(None, {"input_ids": token_ids, "attention_mask": mask})
        with torch.inference_mode():
            wanted = encoder(torch.from_numpy(token_ids), torch.from_numpy(mask)).numpy()
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        cosines.append((found * wanted).sum(axis=1) / lengths)
        errors.append(float(np.abs(found - wanted).max()))
        max_component = max(max_component, float(np.abs(wanted).max()))
    return EncoderRecord(
        padding_id=encoder.padding_id,
        dimensions=wanted.shape[1],
        recipe=encoder.recipe.words,
        min_cosine=float(np.concatenate(cosines).min()),
        max_abs_error=max(errors),
        max_component=max_component,
        num_texts=len(texts),
    )


def _refuse_disagreement(spec: EngineSpec, dtype: str, record: EncoderRecord) -> None:
    # Written so that NaN fails as well.
    is_near = record.min_cosine >= _MIN_COSINE[dtype]
    if dtype == "fp32":
        is_near = is_near and record.max_abs_error <= _MAX_ERROR_RATIO * record.max_component
    if not is_near:
        raise EngineStartError(
            f"{spec.model}: the ONNX graph in {dtype} does not compute what PyTorch does: cosine"
            f" {record.min_cosine:.4f} at worst, allowed {_MIN_COSINE[dtype]} or more; largest"
            f" difference {record.max_abs_error:.2g}.",
            remedy=f"Set models.{spec.model}.engines to [pytorch]"
            + (f", or models.{spec.model}.dtype to fp32." if dtype == "int8" else "."),
        )
