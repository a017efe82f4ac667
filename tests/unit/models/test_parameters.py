"""The number of a model's parameters, by its files and by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from mm_orch.models.parameters import count_parameters, guess_parameters
from mm_orch.models.stored import StoredModel

if TYPE_CHECKING:
    from pathlib import Path


def stored(directory: Path) -> StoredModel:
    return StoredModel(
        name="m",
        directory=str(directory),
        source="path:x",
        revision=None,
        architecture="LlamaForCausalLM",
        context_length=10,
        vocab_size=10,
        eos_token_ids=(),
        size_bytes=0,
        file_sizes={path.name: path.stat().st_size for path in directory.iterdir()},
    )


def test_the_tensors_of_all_files_are_counted_whatever_their_format(tmp_path: Path) -> None:
    save_file({"a": np.zeros((3, 4), np.float32)}, tmp_path / "one.safetensors", {"by": "us"})
    save_file({"b": np.zeros(5, np.float16)}, tmp_path / "two.safetensors")
    (tmp_path / "config.json").write_text("{}")

    assert count_parameters(stored(tmp_path)) == 17


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"\x09\0\0\0\0\0\0\0{}"]
)
def test_of_a_file_that_is_none_nothing_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)

    assert count_parameters(stored(tmp_path)) is None


def test_without_weights_nothing_is_told(tmp_path: Path) -> None:
    assert count_parameters(stored(tmp_path)) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("smollm2-135m",), 135e6),
        (("Qwen/Qwen2.5-7B-Instruct",), 7e9),
        (("gpt", "hf:org/Phi-1.5B"), 1.5e9),
        (("mixtral-8x7b",), None),
        (("llama-3", "openai:http://localhost:8000"), None),
    ],
)
def test_a_name_may_tell_the_size(names: tuple[str, ...], expected: float | None) -> None:
    assert guess_parameters(*names) == expected
