"""What of a model's shape the engine must know: to export it, and to keep its keys and values."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from mm_orch.core.errors import EngineStartError

# Tokens whose keys and values share a block.
BLOCK_TOKENS = 16
_FLOAT_BYTES = 4
_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


class DecoderShape(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder of the Llama family.

    Attributes:
        window: how many last tokens windowed layers attend to; None without such layers.
        windowed_layers: by layer, whether it is one.
    """

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    window: int | None
    windowed_layers: tuple[bool, ...]

    @property
    def kv_width(self) -> int:
        """Numbers that a layer keeps of a token's keys; of its values just as many."""
        return self.num_kv_heads * self.head_dim

    @property
    def block_bytes(self) -> int:
        """Memory of a block, keys and values of all layers, fp32."""
        return 2 * self.num_layers * self.kv_width * _FLOAT_BYTES * BLOCK_TOKENS


def check_model_type(model: str, directory: str) -> None:
    """Refuse early, before a heavy library is loaded, what cannot be exported.

    Raises:
        EngineStartError: config.json cannot be read, or names another kind of model.
    """
    path = Path(directory) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_type = config.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise EngineStartError(
            f"{model}: {path} cannot be read: {error}",
            remedy="Check the model's files, or remove and pull it again.",
        ) from error
    if model_type not in _MODEL_TYPES:
        raise refuse_architecture(model, f"model_type {model_type}")


def refuse_architecture(model: str, what: str) -> EngineStartError:
    """Return the error for a model that is not built like Llama."""
    return EngineStartError(
        f"{model}: the ONNX Runtime engine exports models built like Llama"
        f" ({', '.join(_MODEL_TYPES)}), and this one has {what}.",
        remedy="Use the pytorch engine for it.",
    )
