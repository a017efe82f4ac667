"""Small models with random weights, made from a config and a seed: real code, no download."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

VOCAB_SIZE = 320
EOS_TOKEN_ID = 2

_SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": EOS_TOKEN_ID,
    "bos_token_id": 1,
    # Larger than usual, so that logits differ by more than rounding.
    "initializer_range": 0.3,
}


def make_llama(directory: Path) -> Path:
    """Write a two-layer Llama with grouped-query attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**_SIZES)).save_pretrained(directory)
    return directory


def make_windowed_qwen(directory: Path) -> Path:
    """Write a two-layer Qwen2 whose second layer attends to the last eight tokens only."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**_SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    torch.manual_seed(7)
    Qwen2ForCausalLM(config).save_pretrained(directory)
    return directory
