"""What kind of decoder a model directory holds, and whether it can be written for OpenVINO."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.llama_config import find_rope, find_window

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderShape:
    """Sizes of a decoder of the Llama family, and how it tells positions.

    Attributes:
        window: tokens that a layer attends to where that is fewer than all, or None.
        is_tied: the output layer's weights are the embedding's.
        inverse_frequencies: [head_dim / 2], of the rotary embedding.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    norm_epsilon: float
    window: int | None
    is_tied: bool
    inverse_frequencies: NDArray[np.float32]


def read_shape(directory: Path) -> DecoderShape:
    """Read ``config.json``.

    Raises:
        EngineStartError: the model is of a kind that this engine cannot write for OpenVINO.
    """
    try:
        config: dict[str, Any] = json.loads((directory / "config.json").read_text("utf-8"))
        _check_kind(config)
        num_heads = int(config["num_attention_heads"])
        head_dim = int(config.get("head_dim") or config["hidden_size"] // num_heads)
        return DecoderShape(
            num_layers=int(config["num_hidden_layers"]),
            num_heads=num_heads,
            num_kv_heads=int(config.get("num_key_value_heads") or num_heads),
            head_dim=head_dim,
            intermediate_size=int(config["intermediate_size"]),
            vocab_size=int(config["vocab_size"]),
            norm_epsilon=float(config["rms_norm_eps"]),
            window=find_window(config),
            is_tied=bool(config.get("tie_word_embeddings", False)),
            inverse_frequencies=_find_frequencies(config, head_dim),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineStartError(
            f"{directory / 'config.json'} does not describe a decoder: {error!r}.",
            remedy="Check the model's files, or remove and pull it again.",
        ) from error


def _check_kind(config: dict[str, Any]) -> None:
    kind, activation = config.get("model_type"), config.get("hidden_act", "silu")
    if kind not in _MODEL_TYPES:
        raise EngineStartError(
            f"OpenVINO runs {', '.join(_MODEL_TYPES)} from safetensors, not {kind}.",
            remedy="Use another engine, or a directory with openvino_model.xml.",
        )
    if activation != "silu":
        raise EngineStartError(
            f"OpenVINO runs {kind} with silu from safetensors, not {activation}."
        )


def _find_frequencies(config: dict[str, Any], head_dim: int) -> NDArray[np.float32]:
    rope = find_rope(config)
    if rope.kind not in _ROPE_TYPES or float(config.get("partial_rotary_factor") or 1) != 1:
        raise EngineStartError(
            f"OpenVINO runs models with rotary embeddings of type {', '.join(_ROPE_TYPES)} from"
            f" safetensors, not {rope.kind} (partial_rotary_factor"
            f" {config.get('partial_rotary_factor')})."
        )
    frequencies = 1.0 / rope.theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        frequencies /= float(rope.options["factor"])
    elif rope.kind == "llama3":
        frequencies = _stretch(frequencies, rope.options)
    return frequencies.astype(np.float32)


def _stretch(frequencies: NDArray[np.float64], rope: Mapping[str, Any]) -> NDArray[np.float64]:
    """Slow the low frequencies down as Llama 3.1 does (transformers' rope type llama3)."""
    factor, context = float(rope["factor"]), float(rope["original_max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    num_turns = context * frequencies / (2 * np.pi)
    # 0 where a wave is long and is slowed down wholly, 1 where it is short and stays as it is.
    kept = np.clip((num_turns - low) / (high - low), 0, 1)
    stretched: NDArray[np.float64] = frequencies * (kept + (1 - kept) / factor)
    return stretched
