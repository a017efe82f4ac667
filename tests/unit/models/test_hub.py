from __future__ import annotations

import pytest

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.hub import choose_files


def test_weights_settings_and_tokeniser_are_fetched_and_nothing_else() -> None:
    sizes = {
        "config.json": 1,
        "model.safetensors": 2,
        "tokenizer.json": 3,
        "chat_template.jinja": 4,
        "pytorch_model.bin": 5,
        "README.md": 6,
        "onnx/model.onnx": 7,
        "original/model.safetensors": 8,
        "modeling_x.py": 9,
        "1_Pooling/config.json": 10,
        "1_Pooling/weights.bin": 11,
    }

    chosen = choose_files("o/n", sizes, with_code=False)

    assert set(chosen) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "1_Pooling/config.json",
    }
    assert "modeling_x.py" in choose_files("o/n", sizes, with_code=True)


def test_a_model_with_pickled_weights_only_is_refused() -> None:
    with pytest.raises(ModelStoreError, match="pickled weights, which can run code"):
        choose_files("o/n", {"config.json": 1, "pytorch_model.bin": 5}, with_code=True)


def test_a_repository_without_weights_is_refused() -> None:
    with pytest.raises(ModelStoreError, match=r"o/n holds no .safetensors\."):
        choose_files("o/n", {"config.json": 1}, with_code=False)
