"""Reads plain models of the Llama family from their files, without transformers.

Importing transformers and its model takes a worker longer than all else of its start together, and
a model that has crashed is back so much later. Plain is a model whose config.json says all that is
needed and nothing that is not known here: rotations that are not scaled, no windows, no quantised
weights. Any other is left to transformers, which also knows every default of every version.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from mm_orch.optimization.engines.llama_config import find_rope, find_window
from mm_orch.optimization.engines.pytorch.llama import MODEL_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "vocab_size",
)
# What transformers would obey, and this does not know.
_UNKNOWN = ("auto_map", "partial_rotary_factor", "quantization_config", "transformers_weights")
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
# Old files hold what is computed here.
_COMPUTED = "rotary_emb.inv_freq"


class PlainConfig(SimpleNamespace):
    """What config.json says, by the names that transformers gives it."""

    def get_text_config(self) -> PlainConfig:
        """Return itself: it has no parts for anything but text."""
        return self


class PlainLlama(nn.Module):
    """Weights under the names that transformers gives them; the forward pass is llama.py's.

    Args:
        config: of a plain model.
        rope_theta: base of the rotations.
        weights: by the names of the files.

    Raises:
        RuntimeError: weights are missing, unknown, or of another shape.
    """

    def __init__(
        self, config: PlainConfig, rope_theta: float, weights: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__()
        self.config = config
        with torch.device("meta"):
            self.model = _Body(config)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.load_state_dict(dict(weights), strict=True, assign=True)
        if weights["lm_head.weight"] is weights["model.embed_tokens.weight"]:
            # One parameter, which is counted and moved once.
            self.lm_head.weight = self.model.embed_tokens.weight
        self.model.rotary_emb = _Rotation(config.head_dim, rope_theta)
        self.requires_grad_(requires_grad=False)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return self.lm_head.weight.dtype

    def get_output_embeddings(self) -> nn.Linear:
        """Return the layer that gives logits."""
        return self.lm_head


def read_plain_llama(directory: str, dtype: torch.dtype | Literal["auto"]) -> PlainLlama | None:
    """Return the model in a directory, on the CPU; None where it is not plain.

    Args:
        directory: with config.json and safetensors.
        dtype: of the weights; auto is that of config.json, or the file's where it says nothing.

    Raises:
        OSError, RuntimeError, ValueError and others: the files cannot be read, or what they hold
            is no model.
    """
    content = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    if not _is_plain(content):
        return None
    weights = _read_tensors(Path(directory))
    wanted = _find_dtype(content, weights) if dtype == "auto" else dtype
    if not weights or wanted is None:
        return None
    weights = {name: one.to(wanted) for name, one in weights.items()}
    if "lm_head.weight" not in weights and content.get("tie_word_embeddings"):
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return PlainLlama(_read_config(content), find_rope(content).theta, weights)


def _is_plain(content: Mapping[str, Any]) -> bool:
    if content.get("model_type") not in MODEL_TYPES or content.get("hidden_act") != "silu":
        return False
    rope = find_rope(content)
    return (
        all(content.get(name) is not None for name in _NEEDED)
        and all(content.get(name) is None for name in _UNKNOWN)
        and find_window(content) is None
        and set(content.get("layer_types") or ["full_attention"]) == {"full_attention"}
        and rope.kind == "default"
        and rope.is_stated
        and rope.options.keys() <= {"rope_type", "type", "rope_theta"}
    )


def _read_config(content: Mapping[str, Any]) -> PlainConfig:
    kind, num_heads = content["model_type"], content["num_attention_heads"]
    has_biases = kind in {"llama", "qwen3"} and bool(content.get("attention_bias"))
    return PlainConfig(
        **{name: content[name] for name in _NEEDED},
        model_type=kind,
        hidden_act="silu",
        head_dim=content.get("head_dim") or content["hidden_size"] // num_heads,
        # As the code of transformers has it, whatever the files hold.
        has_input_biases=has_biases or kind == "qwen2",
        has_output_bias=has_biases,
        has_mlp_biases=kind == "llama" and bool(content.get("mlp_bias")),
        has_head_norms=kind == "qwen3",
    )


def _find_dtype(
    content: Mapping[str, Any], weights: Mapping[str, torch.Tensor]
) -> torch.dtype | None:
    """Return the number format that a configuration names, or that all weights have."""
    named = content.get("dtype") or content.get("torch_dtype")
    if named is not None:
        found = getattr(torch, str(named), None)
        return found if isinstance(found, torch.dtype) and found.is_floating_point else None
    kinds = {one.dtype for one in weights.values()}
    return kinds.pop() if len(kinds) == 1 else None


def _read_tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Return all weights of the files, mapped into memory; none where there are no such files."""
    from safetensors.torch import load_file

    index = directory / _INDEX
    if (directory / _SINGLE).exists():
        names = {_SINGLE}
    elif index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    else:
        return {}
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(names):
        tensors.update(load_file(directory / name))
    return {name: one for name, one in tensors.items() if not name.endswith(_COMPUTED)}


class _Scale(nn.Module):
    """The weight of a norm."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))


class _Body(nn.Module):
    rotary_emb: _Rotation

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = _Scale(config.hidden_size)


class _Layer(nn.Module):
    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        self.input_layernorm = _Scale(config.hidden_size)
        self.self_attn = _Attention(config)
        self.post_attention_layernorm = _Scale(config.hidden_size)
        self.mlp = _Mlp(config)


class _Attention(nn.Module):
    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        size, self.head_dim = config.hidden_size, config.head_dim
        self.scaling = self.head_dim**-0.5
        queries = config.num_attention_heads * self.head_dim
        keys = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(size, queries, bias=config.has_input_biases)
        self.k_proj = nn.Linear(size, keys, bias=config.has_input_biases)
        self.v_proj = nn.Linear(size, keys, bias=config.has_input_biases)
        self.o_proj = nn.Linear(queries, size, bias=config.has_output_bias)
        if config.has_head_norms:
            self.q_norm = _Scale(self.head_dim)
            self.k_norm = _Scale(self.head_dim)


class _Mlp(nn.Module):
    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        size, inner, has_biases = (
            config.hidden_size,
            config.intermediate_size,
            config.has_mlp_biases,
        )
        self.gate_proj = nn.Linear(size, inner, bias=has_biases)
        self.up_proj = nn.Linear(size, inner, bias=has_biases)
        self.down_proj = nn.Linear(inner, size, bias=has_biases)


class _Rotation(nn.Module):
    """Angles by position; computed in fp32 as transformers does, whatever the weights are in."""

    inv_freq: torch.Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        self.register_buffer("inv_freq", 1.0 / theta**exponents, persistent=False)

    def forward(
        self, rows: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, [1, num_positions, head_dim], in the rows' number format."""
        angles = positions[0].float()[:, None] * self.inv_freq[None]
        both = torch.cat((angles, angles), dim=-1)[None]
        return both.cos().to(rows.dtype), both.sin().to(rows.dtype)
