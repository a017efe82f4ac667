"""Tokens, text and weights as transformers has them, for the servers that run on it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


class TransformersText:
    """Encodes prompts and chats, decodes answers."""

    def __init__(self, directory: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(directory)

    def encode(self, body: dict[str, Any]) -> list[int]:
        """Return the prompt's tokens; chats go through the model's template."""
        if "messages" not in body:
            token_ids: list[int] = self._tokenizer(body["prompt"])["input_ids"]
            return token_ids
        rendered = self._tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_dict=True
        )
        return list(rendered["input_ids"])

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of new tokens."""
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text


def load_model(directory: str) -> Any:
    """Return the model in bf16, as transformers sets it up by default."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
