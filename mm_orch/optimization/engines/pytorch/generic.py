"""Any causal language model of transformers over the packed step and the shared KV memory.

transformers' own code runs; only its attention function is replaced. It is called once a layer
with all rows of the step as one sequence, and cuts them into the step's segments.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.pytorch.kernels import AttentionSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.optimization.engines.pytorch.kernels import Kernels
    from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory
    from mm_orch.optimization.engines.pytorch.packed import PackedStep

    # Of queries, keys, values, the layer's index, scaling and window: see PackedAttention.attend.
    Attend = Callable[
        [torch.Tensor, torch.Tensor, torch.Tensor, int, float | None, int | None], torch.Tensor
    ]

_numbers = itertools.count()


class PackedAttention:
    """What computes attention for transformers' layers, and the step it works on.

    Attributes:
        kernels: how it is computed.
        step: is computed now.
        memory: of keys and values.
        name: that transformers knows it by.
        layers_seen: layers that have called it.
    """

    def __init__(self) -> None:
        self.kernels: Kernels | None = None
        self.step: PackedStep | None = None
        self.memory: KVMemory | None = None
        self.name = ""
        self.layers_seen: set[int] = set()

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        layer_index: int,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Store the step's keys and values, then attend within each segment.

        Args:
            query: [1, num_heads, num_rows, head_dim].
            key: [1, num_kv_heads, num_rows, head_dim].
            value: the same shape as ``key``.
            layer_index: chooses the KV memory.
            scaling: factor of the scores, or None for 1/sqrt(head_dim).
            window: each token attends to so many last tokens, itself included; None for all.

        Returns:
            [1, num_rows, num_heads, head_dim].
        """
        if self.kernels is None or self.step is None or self.memory is None:
            raise EngineStartError("The model computed attention outside of a step.")
        self.layers_seen.add(layer_index)
        keys, values = self.memory.keys[layer_index], self.memory.values[layer_index]
        num_tokens, slots = self.step.num_tokens, self.step.token_slots
        keys.index_copy_(0, slots, key[0, :, :num_tokens].transpose(0, 1))
        values.index_copy_(0, slots, value[0, :, :num_tokens].transpose(0, 1))
        spec = AttentionSpec(
            num_heads=query.shape[1],
            num_kv_heads=key.shape[1],
            head_dim=query.shape[3],
            scale=scaling,
            window=window,
        )
        queries = query[0].transpose(0, 1).contiguous()
        return self.kernels.attend(queries, self.step, keys, values, spec)[None]


class GenericDecoder:
    """Computes logits of a packed step through transformers' model code."""

    def __init__(self, model: Any, attention: PackedAttention, kernels: Kernels) -> None:
        self._attention = attention
        attention.kernels = kernels
        self._model = model

    def __call__(self, step: PackedStep, memory: KVMemory | None) -> torch.Tensor:
        """Return logits of the wanted rows, [num_wanted, vocab_size]; fills the step's slots.

        ``memory`` may be None where the layers' attention is not ours.
        """
        self._attention.step, self._attention.memory = step, memory
        output = self._model(
            input_ids=step.token_ids[None],
            position_ids=step.positions[None],
            use_cache=False,
            logits_to_keep=step.wanted_rows,
        )
        logits: torch.Tensor = output.logits[0]
        return logits


def register_attention(attention: PackedAttention) -> str:
    """Make an attention function known to transformers and return its name there.

    Each has a name of its own, so that several models can live in one process.
    """
    attention.name = f"muai_packed_{next(_numbers)}"
    set_attention(attention.name, attention.attend)
    return attention.name


def set_attention(name: str, attend: Attend) -> None:
    """Have the layers of models that were loaded with this name attend by this function.

    A layer raises EngineStartError where it uses a kind of attention that is not computed here.
    The warm-up step finds that, so it is never in the middle of a request.
    """
    from transformers import AttentionInterface

    def call(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        # Causality follows from the segments.
        del attention_mask
        _refuse_unknown(options)
        return attend(query, key, value, module.layer_idx, scaling, sliding_window), None

    AttentionInterface.register(name, call)


def _refuse_unknown(options: dict[str, Any]) -> None:
    """Raise when a model asks for score capping, sinks or biases, which are not computed here."""
    for name in ("softcap", "s_aux", "position_bias", "head_mask"):
        if options.get(name) is not None:
            raise EngineStartError(
                f"The model's attention uses {name}, which the PyTorch engine does not compute.",
                remedy="Choose another model.",
            )


def lay_out_weights(model: Any, kernels: Kernels, dtype: torch.dtype) -> None:
    """Replace linear layers by the fastest ones, and convert all other weights to ``dtype``."""
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        # Subclasses may compute something else.
        if type(module) is torch.nn.Linear:
            fast = kernels.make_linear(module.weight.detach(), module.bias, is_head=module is head)
            model.set_submodule(name, fast)
    # Replaced layers have what they need. Buffers, such as the frequencies of rotations, keep
    # their precision.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
