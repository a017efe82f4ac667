"""What of a model decides its pace: weights to read, arithmetic a token, keys and values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.parameters import count_parameters
from mm_orch.planning.costs import RooflineCosts
from mm_orch.planning.fields import Field, parse_fields

if TYPE_CHECKING:
    from mm_orch.models.stored import StoredModel
    from mm_orch.planning.hardware import Hardware

_FIELDS = {
    "parameters": Field(low=1e6, high=1e13, unit="parameters"),
    "layers": Field(low=1, high=1000, unit="layers", is_whole=True),
    "heads": Field(low=1, high=1000, unit="attention heads", is_whole=True),
    "kv_heads": Field(low=1, high=1000, unit="key heads", is_whole=True),
    "head_dim": Field(low=1, high=4096, unit="dimensions", is_whole=True, default=128),
    "bits": Field(low=1, high=32, unit="bits a weight", default=16),
    "active": Field(low=0, high=1e13, unit="parameters that a token uses", default=0),
    "context": Field(low=1, high=1e8, unit="tokens", is_whole=True, default=8192),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder in figures.

    Attributes:
        num_parameters: all of them; of a mixture of experts, a token uses ``num_active``.
        weight_bytes: of all weights as they are read.
        num_heads: of queries, in each layer; ``num_kv_heads`` of keys.
        context_length: most tokens of a sequence.
    """

    name: str
    num_parameters: float
    num_active: float
    weight_bytes: float
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int

    @classmethod
    def parse(cls, text: str) -> ModelShape:
        """Read ``parameters=8e9,layers=32,heads=32,kv_heads=8`` and what else there is.

        Raises:
            InvalidValueError: naming the field, its value and what is allowed.
        """
        values = parse_fields("--model-shape", text, _FIELDS)
        return cls(
            name=f"a model of {values['parameters'] / 1e9:.3g} billion parameters",
            num_parameters=values["parameters"],
            num_active=values["active"] or values["parameters"],
            weight_bytes=values["parameters"] * values["bits"] / 8,
            num_layers=int(values["layers"]),
            num_heads=int(values["heads"]),
            num_kv_heads=int(values["kv_heads"]),
            head_dim=int(values["head_dim"]),
            context_length=int(values["context"]),
        )

    @classmethod
    def of(cls, stored: StoredModel) -> ModelShape:
        """Read a stored model's own files; a quantised original says what its weights take.

        Raises:
            ModelStoreError: they do not say what is needed.
        """
        path = Path(stored.directory) / "config.json"
        try:
            config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            config = {**config, **(config.get("text_config") or {})}
            num_heads = int(config["num_attention_heads"])
            num_parameters = _count_parameters(stored)
            return cls(
                name=stored.name,
                num_parameters=num_parameters,
                num_active=num_parameters,
                weight_bytes=float(_count_weight_bytes(stored)),
                num_layers=int(config["num_hidden_layers"]),
                num_heads=num_heads,
                num_kv_heads=int(config.get("num_key_value_heads") or num_heads),
                head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // num_heads),
                context_length=stored.context_length,
            )
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise ModelStoreError(
                f"{path} does not tell the shape of {stored.name}: {error}.",
                remedy="Give it with --model-shape.",
            ) from error

    def count_kv_bytes(self, element_bytes: int) -> int:
        """Return the bytes of one token's keys and values, all layers together."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * element_bytes

    def on(self, hardware: Hardware) -> RooflineCosts:
        """Return what its steps take there, by the roofline."""
        return RooflineCosts(
            weight_bytes=self.weight_bytes,
            kv_bytes_per_token=self.count_kv_bytes(hardware.kv_element_bytes),
            # A multiplication and an addition for each weight, and twice for each key dimension.
            flops_per_token=2 * self.num_active,
            flops_per_pair=4 * self.num_layers * self.num_heads * self.head_dim,
            bytes_per_s=hardware.bytes_per_s,
            flops_per_s=hardware.flops_per_s,
            overhead_s=hardware.overhead_s,
        )

    def count_kv_tokens(self, hardware: Hardware) -> int:
        """Return the tokens whose keys and values fit beside the weights; 0 where none do."""
        spare = hardware.memory_bytes - self.weight_bytes
        return max(0, int(spare / self.count_kv_bytes(hardware.kv_element_bytes)))


def _count_parameters(stored: StoredModel) -> float:
    found = count_parameters(stored)
    if found is None:
        message = "its weights cannot be counted"
        raise ValueError(message)
    return found


def _count_weight_bytes(stored: StoredModel) -> int:
    if stored.gguf_file is not None:
        return stored.file_sizes[stored.gguf_file]
    return sum(size for name, size in stored.file_sizes.items() if name.endswith(".safetensors"))
