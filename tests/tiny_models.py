"""Small models with random weights, made from a config and a seed: real code, no download."""

from __future__ import annotations

import json
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


def make_llama(directory: Path, num_kv_heads: int = 2) -> Path:
    """Write a two-layer Llama with four query heads, by default with grouped-query attention."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    sizes = _SIZES | {"num_key_value_heads": num_kv_heads}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(directory)
    return directory


def make_wide_llama(directory: Path) -> Path:
    """Write a two-layer Llama whose heads are as wide as every engine's kernels ask for."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    sizes = _SIZES | {"hidden_size": 128, "intermediate_size": 256, "initializer_range": 0.2}
    LlamaForCausalLM(LlamaConfig(**sizes)).save_pretrained(directory)
    return directory


def make_stretched_llama(directory: Path) -> Path:
    """Write a two-layer Llama with Llama 3.1's slowed rotation and an output layer of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    config = LlamaConfig(**_SIZES, rope_parameters=rope, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def make_tied_qwen2(directory: Path) -> Path:
    """Write a two-layer Qwen2, whose projections have biases, with a linearly slowed rotation."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(7)
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    model = Qwen2ForCausalLM(Qwen2Config(**_SIZES, rope_parameters=rope, tie_word_embeddings=True))
    for name, weight in model.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.uniform_(weight, -1, 1)
    model.save_pretrained(directory)
    return directory


def make_windowed_qwen(directory: Path) -> Path:
    """Write a two-layer Qwen2 whose second layer attends to the last eight tokens only."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**_SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    torch.manual_seed(7)
    Qwen2ForCausalLM(config).save_pretrained(directory)
    return directory


def make_qwen3(directory: Path) -> Path:
    """Write a two-layer Qwen3: its query and key heads are normalised before the rotation."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(7)
    model = Qwen3ForCausalLM(Qwen3Config(**_SIZES, head_dim=32))
    for name, weight in model.named_parameters():
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    model.save_pretrained(directory)
    return directory


def make_mistral(directory: Path) -> Path:
    """Write a two-layer Mistral, every layer of which attends to the last eight tokens only."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(7)
    MistralForCausalLM(MistralConfig(**_SIZES, sliding_window=8)).save_pretrained(directory)
    return directory


def make_olmo2(directory: Path) -> Path:
    """Write a two-layer OLMo 2, which norms after attention: not of the Llama family's shape."""
    import torch
    from transformers import Olmo2Config, Olmo2ForCausalLM

    torch.manual_seed(7)
    Olmo2ForCausalLM(Olmo2Config(**_SIZES)).save_pretrained(directory)
    return directory


_ENCODER_SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}


def make_bert(directory: Path) -> Path:
    """Write a two-layer BERT with a tokeniser, and nothing that says how to pool."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(7)
    BertModel(BertConfig(**_ENCODER_SIZES, max_position_embeddings=128)).save_pretrained(directory)
    return _add_tokenizer(directory)


def make_xlm_roberta(directory: Path) -> Path:
    """Write a two-layer XLM-RoBERTa: its positions begin behind its padding token's id."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        **_ENCODER_SIZES, max_position_embeddings=130, pad_token_id=1, type_vocab_size=1
    )
    torch.manual_seed(7)
    XLMRobertaModel(config).save_pretrained(directory)
    return _add_tokenizer(directory)


def make_t5(directory: Path) -> Path:
    """Write a small T5, an encoder with a decoder."""
    from transformers import T5Config, T5Model

    config = T5Config(vocab_size=VOCAB_SIZE, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    T5Model(config).save_pretrained(directory)
    return _add_tokenizer(directory)


def state_recipe(directory: Path, pooling: str, *, is_normalized: bool = False) -> Path:
    """Add the files by which sentence-transformers says how a model's vectors are made."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if is_normalized else [])]
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{index}_{kind}" if index else ""}
        for index, kind in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir()
    config = {f"pooling_mode_{pooling}": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return directory


def _add_tokenizer(directory: Path) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index + 10 for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def snap_to_four_bits(directory: Path) -> Path:
    """Move a model's weights to the nearest of sixteen steps a group, as a 4-bit file's are."""
    import torch
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    weights = load_file(path)
    for name, weight in weights.items():
        if name.endswith("_proj.weight"):
            groups = weight.unflatten(1, (-1, 32))
            low = groups.amin(dim=-1, keepdim=True).half().float()
            step = ((groups.amax(dim=-1, keepdim=True) - low) / 15).half().float()
            weights[name] = (low + step * torch.round((groups - low) / step)).flatten(1)
    save_file(weights, path, metadata={"format": "pt"})
    return directory
