"""Exports a model: PyTorch reads the weights, our writer the graph; the logits must agree."""

from __future__ import annotations

import gc
import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from mm_orch.core.errors import EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.onnx.decoder import DecoderWriter
from mm_orch.optimization.engines.onnx.export_cache import GRAPH_NAME, WEIGHTS_NAME, ExportRecord
from mm_orch.optimization.engines.onnx.graph import GraphWriter
from mm_orch.optimization.engines.onnx.runner import DecoderRunner
from mm_orch.optimization.engines.onnx.session import open_session
from mm_orch.optimization.engines.onnx.shape import BLOCK_TOKENS, refuse_architecture
from mm_orch.optimization.engines.pytorch.faults import translated_loading
from mm_orch.optimization.engines.pytorch.llama import is_llama_like

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.onnx.formats import WeightFormat
    from mm_orch.optimization.engines.onnx.shape import DecoderShape

logger = logging.getLogger(__name__)

# Two sequences whose last tokens are compared, the first taken in two pieces: the second piece
# attends to keys that were stored in an earlier run, and so does the step of both that follows.
_NUM_CHECKED_TOKENS = (45, 19)
_FIRST_PIECE_TOKENS = 30


def export_model(
    spec: EngineSpec, weight_format: WeightFormat, providers: tuple[str, ...], draft: Path
) -> ExportRecord:
    """Write graph and weights into the folder and compare them with PyTorch.

    Raises:
        EngineStartError: the model cannot be read or is not built like Llama, or its logits are
            further from PyTorch's than the format allows.
        OSError: the files cannot be written.
    """
    begin_s = time.monotonic()
    logger.info(
        "%s: exporting to ONNX (%s); this is done once and kept in %s",
        spec.model,
        weight_format.description,
        draft.parent,
    )
    model = _load_reference(spec)
    num_positions = model.config.max_position_embeddings
    with (draft / WEIGHTS_NAME).open("wb") as weights:
        writer = GraphWriter(weights, WEIGHTS_NAME)
        shape = DecoderWriter(model, writer, weight_format, num_positions=num_positions).write()
    (draft / GRAPH_NAME).write_bytes(writer.finish().SerializeToString())
    expected, token_ids = _compute_expected(model, shape, num_positions)
    # Its weights would stand in memory beside the session's.
    del model
    gc.collect()
    logger.info("%s: checking the export against PyTorch", spec.model)
    session = open_session(spec, draft / GRAPH_NAME, providers)
    deviation = _find_deviation(expected, _compute_exported(session, shape, token_ids))
    if not deviation <= weight_format.max_deviation:
        raise EngineStartError(
            f"{spec.model}: the export in {weight_format.name} is not used and was thrown away:"
            f" its logits deviate from PyTorch's by {deviation:.2g} of their spread, allowed are"
            f" {weight_format.max_deviation:g}.",
            remedy="Use fp32 (optimization.onnx.enable_quantization: false) or the pytorch engine.",
        )
    logger.info(
        "%s: exported in %.1f s; logits deviate from PyTorch's by %.2g of their spread",
        spec.model,
        time.monotonic() - begin_s,
        deviation,
    )
    return ExportRecord(shape=shape, num_positions=num_positions, deviation=deviation)


def _load_reference(spec: EngineSpec) -> Any:
    with translated_loading(spec):
        model = AutoModelForCausalLM.from_pretrained(
            spec.directory,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    if not is_llama_like(model.config):
        rope = getattr(model.config, "rope_parameters", None) or {}
        raise refuse_architecture(
            spec.model,
            f"hidden_act {model.config.hidden_act} and rope_type {rope.get('rope_type')}",
        )
    return model.train(mode=False)


def _compute_expected(
    model: Any, shape: DecoderShape, num_positions: int
) -> tuple[NDArray[np.float32], list[list[int]]]:
    """Return PyTorch's logits for the last two tokens of each checked sequence, and their tokens.

    The tokens are drawn at random: harder for rounded weights than any text.
    """
    draw = np.random.default_rng(0)
    sequences = [
        draw.integers(0, shape.vocab_size, min(number, num_positions)).tolist()
        for number in _NUM_CHECKED_TOKENS
    ]
    with torch.inference_mode():
        logits = [model(torch.tensor([one]), use_cache=False).logits[0, -2:] for one in sequences]
    return torch.cat(logits).float().numpy(), sequences


def _compute_exported(
    session: Any, shape: DecoderShape, token_ids: list[list[int]]
) -> NDArray[np.float32]:
    """Return the same logits as the engine computes them: in pieces, then in a common step."""
    num_blocks = [-(-len(one) // BLOCK_TOKENS) for one in token_ids]
    runner = DecoderRunner(session, shape, num_blocks=sum(num_blocks))
    first_block, sequences, before_last = 0, [], []
    for name, (one, count) in enumerate(zip(token_ids, num_blocks, strict=True)):
        sequence = Sequence(
            sequence_id=str(name),
            token_ids=one[:-1],
            params=SamplingParams(max_tokens=1),
            # Backwards, so that the order of blocks counts.
            block_ids=list(range(first_block, first_block + count))[::-1],
        )
        first_block += count
        while sequence.num_uncomputed_tokens:
            piece = min(_FIRST_PIECE_TOKENS, sequence.num_uncomputed_tokens)
            logits, _ = runner.compute([ScheduledSequence(sequence, piece)])
            sequence.num_computed_tokens += piece
        sequence.token_ids.append(one[-1])
        sequences.append(sequence)
        before_last.append(logits)
    last, finished = runner.compute([ScheduledSequence(sequence, 1) for sequence in sequences])
    row_by_name = {sequence.sequence_id: row for row, sequence in zip(last, finished, strict=True)}
    return np.concatenate(
        [
            np.concatenate([logits, row_by_name[sequence.sequence_id][None]])
            for logits, sequence in zip(before_last, sequences, strict=True)
        ]
    )


def _find_deviation(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Return the root mean square of the differences as a share of the expected logits' spread."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())
