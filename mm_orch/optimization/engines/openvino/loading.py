"""Loads a model into an OpenVINO GenAI pipeline with KV memory of a bounded size."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from mm_orch.core.errors import EngineCrashedError, EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.optimization.engines.contract import Sequence, count_kv_blocks
from mm_orch.optimization.engines.openvino.device import (
    choose_device,
    choose_fallback,
    choose_precision,
)
from mm_orch.optimization.engines.openvino.model_files import ensure_model
from mm_orch.optimization.engines.openvino.requests import make_config
from mm_orch.optimization.engines.openvino.shape import read_shape
from mm_orch.optimization.engines.openvino.vocabulary import make_tokenizer, read_vocabulary

if TYPE_CHECKING:
    import openvino_genai

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.openvino.device import Precision
    from mm_orch.optimization.engines.openvino.model_files import OpenVinoModel
    from mm_orch.optimization.engines.openvino.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

# Tokens of a KV block; GenAI does not tell.
_BLOCK_TOKENS = {"CPU": 32, "GPU": 16, "NPU": 32}
_FP32_BYTES = 4
_TRIAL_ANSWER = b'"ok"'
_REMEDY = "Use another engine, or check the model's files."


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineForm:
    """What a pipeline was loaded as.

    Attributes:
        model: what it was loaded from.
        precision: how it computes.
        device: CPU, GPU or NPU.
        vocabulary: what its tokens say, where it keeps answers to guides.
        block_bytes: memory of a KV block, all layers together.
    """

    model: OpenVinoModel
    precision: Precision
    device: str
    vocabulary: Vocabulary | None
    num_blocks: int
    block_tokens: int
    block_bytes: int


def load_pipeline(
    spec: EngineSpec,
) -> tuple[openvino_genai.ContinuousBatchingPipeline, PipelineForm]:
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

    def open_with(num_blocks: int) -> openvino_genai.ContinuousBatchingPipeline:
        return _open(model, spec, precision, device, vocabulary, num_blocks=num_blocks)

    try:
        vocabulary = read_vocabulary(spec, model)
        if block_bytes is None:
            block_bytes = _warm_up(open_with(1), spec, 1)
        num_blocks = count_kv_blocks(spec, block_tokens=block_tokens, block_bytes=block_bytes)
        pipeline = open_with(num_blocks)
        measured_bytes = _warm_up(pipeline, spec, num_blocks)
        if measured_bytes > block_bytes:
            logger.warning("a KV block takes %d bytes, not %d", measured_bytes, block_bytes)
            block_bytes = measured_bytes
            num_blocks = count_kv_blocks(spec, block_tokens=block_tokens, block_bytes=block_bytes)
            # Weights and keys and values of two pipelines at once may be more than there is.
            del pipeline
            pipeline = open_with(num_blocks)
            _warm_up(pipeline, spec, num_blocks)
        if vocabulary is not None and not _can_guide(pipeline, spec, vocabulary):
            vocabulary = None
            # As above.
            del pipeline
            pipeline = open_with(num_blocks)
            _warm_up(pipeline, spec, num_blocks)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise EngineStartError(
            f"{spec.model}: OpenVINO cannot load {model.directory}: {error}", remedy=_REMEDY
        ) from error
    return pipeline, PipelineForm(
        model=model,
        precision=precision,
        device=device,
        vocabulary=vocabulary,
        num_blocks=num_blocks,
        block_tokens=block_tokens,
        block_bytes=block_bytes,
    )


def open_again(form: PipelineForm, spec: EngineSpec) -> openvino_genai.ContinuousBatchingPipeline:
    """Load a pipeline once more: with an empty cache, and without grammars.

    Raises:
        EngineCrashedError: it cannot be loaded any more.
    """
    try:
        pipeline = _open(
            form.model,
            spec,
            form.precision,
            form.device,
            form.vocabulary,
            num_blocks=form.num_blocks,
        )
        _warm_up(pipeline, spec, form.num_blocks)
    except RuntimeError as error:
        raise EngineCrashedError(f"OpenVINO cannot load the model again: {error}") from error
    return pipeline


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
    model: OpenVinoModel,
    spec: EngineSpec,
    precision: Precision,
    device: str,
    vocabulary: Vocabulary | None,
    *,
    num_blocks: int,
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
    return openvino_genai.ContinuousBatchingPipeline(
        model.directory,
        # It keeps all grammars that its pipeline has seen, so each has its own.
        make_tokenizer(vocabulary),
        scheduler,
        device,
        sampler_num_threads=spec.num_threads,
        **precision.properties,
    )


def _warm_up(
    pipeline: openvino_genai.ContinuousBatchingPipeline, spec: EngineSpec, num_blocks: int
) -> int:
    """Generate one token; return the bytes of a KV block."""
    if not _generate(pipeline, spec, SamplingParams(max_tokens=1, temperature=0.0)):
        raise RuntimeError("it generated no token")
    cache_bytes: int = pipeline.get_metrics().cache_size_in_bytes
    return -(-cache_bytes // num_blocks)


def _can_guide(
    pipeline: openvino_genai.ContinuousBatchingPipeline, spec: EngineSpec, vocabulary: Vocabulary
) -> bool:
    """Whether an answer that can only be one is that one."""
    schema = msgspec.json.encode({"const": msgspec.json.decode(_TRIAL_ANSWER)}).decode()
    params = SamplingParams(
        max_tokens=len(_TRIAL_ANSWER) + 1,
        temperature=0.0,
        guide=Guide(shape=JsonSchemaShape(schema)),
        stop_token_ids=spec.eos_token_ids,
    )
    try:
        token_ids = _generate(pipeline, spec, params)
    except RuntimeError as error:
        logger.warning("%s: OpenVINO cannot guide answers: %s", spec.model, error)
        return False
    answer = b"".join(vocabulary.tokens[token_id] for token_id in token_ids)
    if answer != _TRIAL_ANSWER or token_ids[-1] not in spec.eos_token_ids:
        logger.warning("%s: OpenVINO guides answers wrongly: %r", spec.model, answer)
        return False
    return True


def _generate(
    pipeline: openvino_genai.ContinuousBatchingPipeline, spec: EngineSpec, params: SamplingParams
) -> list[int]:
    """Generate an answer to one token with nobody else there."""
    import openvino as ov

    sequence = Sequence(sequence_id="trial", token_ids=[0], params=params)
    prompt = ov.Tensor(np.array([sequence.token_ids], dtype=np.int64))
    handle = pipeline.add_request(0, prompt, make_config(sequence, spec.context_length))
    token_ids: list[int] = []
    while pipeline.has_non_finished_requests():
        pipeline.step()
        while handle.can_read():
            for output in handle.read().values():
                token_ids.extend(output.generated_ids)
    return token_ids
