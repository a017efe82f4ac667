"""DeepSpeed's own GPU kernels around our attention.

With kernel injection DeepSpeed computes whole layers and keeps keys and values in a workspace,
where all sequences of a call have one length. Here its products, norms and activations stay, and
its attention is replaced by ours, which finds keys and values in the blocks of each sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import AttentionInterface

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def find_obstacle(config: Any, *, num_ranks: int) -> str | None:
    """Say why kernels cannot be injected into a model with this configuration, or None.

    DeepSpeed's layers take other shapes than these too, and then compute something else.
    """
    if config.model_type != "llama":
        return f"it is a {config.model_type}, not a llama"
    num_heads = config.num_attention_heads
    obstacles = {
        "its query heads share key-value heads": config.num_key_value_heads != num_heads,
        "its rotations are scaled": config.rope_parameters["rope_type"] != "default",
        "its projections have biases": config.attention_bias or config.mlp_bias,
        f"{num_ranks} ranks cannot share its {num_heads} heads evenly": num_heads % num_ranks,
    }
    return next((reason for reason, holds in obstacles.items() if holds), None)


class Rotation:
    """Turns queries and keys as a model's own rotary embedding does; once a step it asks that."""

    def __init__(self, embedding: torch.nn.Module) -> None:
        self._embedding = embedding
        self._positions: torch.Tensor | None = None
        self._cos_sin: tuple[torch.Tensor, torch.Tensor] | None = None

    def turn(
        self, query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both rotated, [1, num_heads, num_rows, head_dim]; positions are [1, num_rows]."""
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        if self._cos_sin is None or positions is not self._positions:
            self._positions, self._cos_sin = positions, self._embedding(query, positions)
        cos, sin = self._cos_sin
        turned: tuple[torch.Tensor, torch.Tensor] = apply_rotary_pos_emb(query, key, cos, sin)
        return turned


class InjectedAttention:
    """Takes the place of ``compute_attention`` in one of DeepSpeed's layers.

    Args:
        module: DeepSpeed's attention; ``layer_idx`` is set on it.
        rotation: shared by all layers.
        name: under which transformers knows the attention function to call.
    """

    def __init__(self, module: torch.nn.Module, rotation: Rotation, name: str) -> None:
        self._module = module
        self._rotation = rotation
        self._name = name
        self._functions: Any = AttentionInterface()

    def __call__(
        self, qkv_out: Any, *, position_ids: torch.Tensor, **unused: Any
    ) -> tuple[torch.Tensor, None, None]:
        """Return the attention's output, [1, num_rows, num_heads * head_dim].

        Args:
            qkv_out: its first element holds queries, keys and values side by side, as many of
                each, [1, num_rows, 3 * num_heads * head_dim].
            position_ids: [1, num_rows].
            **unused: masks and caches, which follow from the step.
        """
        del unused
        qkv = qkv_out[0]
        num_heads = self._module.num_attention_heads_per_partition
        heads = qkv.view(1, qkv.shape[1], 3, num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = self._rotation.turn(heads[0], heads[1], position_ids)
        function: Callable[..., Any] = self._functions[self._name]
        output, _ = function(self._module, query, key, heads[2], None)
        return output.flatten(2), None, None


def replace_attention(model: Any, name: str) -> None:
    """Have every layer that DeepSpeed has put in call the attention function of this name."""
    from deepspeed.ops.transformer.inference.ds_attention import DeepSpeedSelfAttention

    rotation = Rotation(model.model.rotary_emb)
    found = [module for module in model.modules() if isinstance(module, DeepSpeedSelfAttention)]
    for index, module in enumerate(found):
        module.layer_idx = index
        module.compute_attention = InjectedAttention(module, rotation, name)
