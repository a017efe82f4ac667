"""Loads a model into an OpenVINO GenAI pipeline with KV memory of a bounded size."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mm_orch.core.errors import EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import Sequence, count_kv_blocks
from mm_orch.optimization.engines.openvino.device import (
    choose_device,
    choose_fallback,
    choose_precision,
)
from mm_orch.optimization.engines.openvino.model_files import ensure_model
from mm_orch.optimization.engines.openvino.requests import make_config
from mm_orch.optimization.engines.openvino.shape import read_shape

if TYPE_CHECKING:
    import openvino_genai

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.openvino.device import Precision
    from mm_orch.optimization.engines.openvino.model_files import OpenVinoModel

logger = logging.getLogger(__name__)

# Tokens of a KV block; GenAI does not tell.
_BLOCK_TOKENS = {"CPU": 32, "GPU": 16, "NPU": 32}
_FP32_BYTES = 4
_REMEDY = "Use another engine, or check the model's files."


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPipeline:
    """A pipeline that has generated its first token.

    Attributes:
        model: what it was loaded from.
        dtype: number format, as the engine's facts state it.
        device: CPU, GPU or NPU.
        block_bytes: memory of a KV block, all layers together.
    """

    pipeline: openvino_genai.ContinuousBatchingPipeline
    model: OpenVinoModel
    dtype: str
    device: str
    num_blocks: int
    block_tokens: int
    block_bytes: int


def load_pipeline(spec: EngineSpec) -> LoadedPipeline:
    """Load the model and run one token through it, so that what cannot work fails here.

    Raises:
        EngineStartError: OpenVINO cannot load the model, or one sequence of full length does not
            fit the KV memory.
    """
    device = choose_device(spec)
    model = ensure_model(spec, fallback=choose_fallback(device))
    precision = choose_precision(model, spec, device)
    block_tokens = _BLOCK_TOKENS[device]
    block_bytes = _estimate_block_bytes(spec, model, precision, device)
    try:
        if block_bytes is None:
            block_bytes = _warm_up(_open(model, spec, precision, device, num_blocks=1), spec, 1)
        num_blocks = count_kv_blocks(spec, block_tokens=block_tokens, block_bytes=block_bytes)
        pipeline = _open(model, spec, precision, device, num_blocks=num_blocks)
        measured_bytes = _warm_up(pipeline, spec, num_blocks)
        if measured_bytes > block_bytes:
            logger.warning("a KV block takes %d bytes, not %d", measured_bytes, block_bytes)
            block_bytes = measured_bytes
            num_blocks = count_kv_blocks(spec, block_tokens=block_tokens, block_bytes=block_bytes)
            pipeline = _open(model, spec, precision, device, num_blocks=num_blocks)
            _warm_up(pipeline, spec, num_blocks)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise EngineStartError(
            f"{spec.model}: OpenVINO cannot load {model.directory}: {error}", remedy=_REMEDY
        ) from error
    return LoadedPipeline(
        pipeline=pipeline,
        model=model,
        dtype=precision.name,
        device=device,
        num_blocks=num_blocks,
        block_tokens=block_tokens,
        block_bytes=block_bytes,
    )


def _estimate_block_bytes(
    spec: EngineSpec, model: OpenVinoModel, precision: Precision, device: str
) -> int | None:
    """Return what a block takes, or None where only a running pipeline shows it.

    On a CPU keys and values have 8 bits unless told otherwise: values with a scale and a zero for
    each token, keys with those for each place of a head.
    """
    if not model.is_own or device != "CPU":
        return None
    shape = read_shape(Path(spec.directory))
    block_tokens, head_dim = _BLOCK_TOKENS[device], shape.head_dim
    if precision.has_exact_cache:
        per_head = 2 * block_tokens * head_dim * _FP32_BYTES
    else:
        scale_bytes = 2 * _FP32_BYTES
        per_head = (block_tokens + scale_bytes) * head_dim + block_tokens * (head_dim + scale_bytes)
    return shape.num_layers * shape.num_kv_heads * per_head


def _open(
    model: OpenVinoModel, spec: EngineSpec, precision: Precision, device: str, *, num_blocks: int
) -> openvino_genai.ContinuousBatchingPipeline:
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = num_blocks
    scheduler.enable_prefix_caching = spec.is_reusing
    scheduler.max_num_seqs = spec.max_batch_size
    scheduler.max_num_batched_tokens = max(spec.max_batch_tokens, spec.max_batch_size)
    # Long prompts are taken in pieces, beside the sequences that run. GenAI does not bound their
    # number then.
    scheduler.dynamic_split_fuse = True
    # Tokens go in and out: no tokeniser is needed, and an empty folder makes one that has no text.
    with tempfile.TemporaryDirectory() as nothing:
        tokenizer = openvino_genai.Tokenizer(nothing)
    return openvino_genai.ContinuousBatchingPipeline(
        model.directory,
        tokenizer,
        scheduler,
        device,
        sampler_num_threads=spec.num_threads,
        **precision.properties,
    )


def _warm_up(
    pipeline: openvino_genai.ContinuousBatchingPipeline, spec: EngineSpec, num_blocks: int
) -> int:
    """Generate one token; return the bytes of a KV block."""
    import openvino as ov

    sequence = Sequence(
        sequence_id="warm-up", token_ids=[0], params=SamplingParams(max_tokens=1, temperature=0.0)
    )
    prompt = ov.Tensor(np.array([sequence.token_ids], dtype=np.int64))
    handle = pipeline.add_request(0, prompt, make_config(sequence, spec.context_length))
    pipeline.step()
    if not handle.can_read():
        raise RuntimeError("it generated no token")
    cache_bytes: int = pipeline.get_metrics().cache_size_in_bytes
    return -(-cache_bytes // num_blocks)
