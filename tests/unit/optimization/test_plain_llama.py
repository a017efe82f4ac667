"""Models that are read without transformers are those that transformers reads."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from mm_orch.core.errors import EngineStartError
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.pytorch.loading import load_model
from mm_orch.optimization.engines.pytorch.plain_llama import read_plain_llama
from tests.tiny_models import (
    make_llama,
    make_mistral,
    make_olmo2,
    make_qwen3,
    make_stretched_llama,
    make_tied_qwen2,
    make_windowed_qwen,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mm_orch.optimization.engines.pytorch.plain_llama import PlainLlama


def read(directory: Path, dtype: Any = "auto") -> PlainLlama:
    model = read_plain_llama(str(directory), dtype)
    assert model is not None
    return model


def change(directory: Path, **values: object) -> None:
    path = directory / "config.json"
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: one for name, one in content.items() if one != "absent"}))


def make_unscaled_qwen2(directory: Path) -> Path:
    make_tied_qwen2(directory)
    change(directory, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    return directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [make_llama, make_unscaled_qwen2, make_qwen3])
def test_weights_and_angles_are_those_of_transformers(
    make: Callable[[Path], Path], dtype: torch.dtype, tmp_path: Path
) -> None:
    directory = make(tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    mine = read(directory, dtype)
    rows, positions = torch.zeros(1, dtype=dtype), torch.arange(500)[None]

    assert mine.dtype == theirs.dtype == dtype
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(mine.state_dict()[name], weight), name
    for own, others in zip(
        mine.model.rotary_emb(rows, positions),
        theirs.model.rotary_emb(rows, positions),
        strict=True,
    ):
        assert torch.equal(own, others)
    attention = mine.model.layers[0].self_attn
    assert attention.head_dim == theirs.model.layers[0].self_attn.head_dim
    assert attention.scaling == theirs.model.layers[0].self_attn.scaling
    assert sum(one.numel() for one in mine.parameters()) == theirs.num_parameters()


@pytest.mark.parametrize(
    "make", [make_stretched_llama, make_tied_qwen2, make_windowed_qwen, make_mistral, make_olmo2]
)
def test_other_models_are_left_to_transformers(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    assert read_plain_llama(str(make(tmp_path)), "auto") is None


@pytest.mark.parametrize(
    "values",
    [
        {"quantization_config": {"quant_method": "gptq"}},
        {"auto_map": {"AutoModelForCausalLM": "own.Model"}},
        {"rms_norm_eps": "absent"},
        {"num_key_value_heads": None},
        {"sliding_window": 128},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "factor": 4.0}},
        {"rope_parameters": None, "rope_theta": None},
        {"partial_rotary_factor": 0.5},
        {"hidden_act": "relu"},
        # transformers obeys the older spelling where there are both.
        {"rope_scaling": {"type": "yarn", "factor": 4.0}},
        # A window of 4096 is its default.
        {"model_type": "mistral", "sliding_window": "absent"},
        {"model_type": "qwen2", "use_sliding_window": True},
        {"dtype": "int8"},
        {"model_type": "gemma"},
    ],
    ids=str,
)
def test_what_is_not_known_here_is_left_to_transformers(
    values: dict[str, object], tmp_path: Path
) -> None:
    directory = make_llama(tmp_path)
    change(directory, **values)

    assert read_plain_llama(str(directory), "auto") is None


@pytest.mark.parametrize(
    "values",
    [
        {"rope_parameters": "absent", "rope_theta": 10000.0, "rope_scaling": None},
        {"model_type": "mistral", "sliding_window": None},
        {"dtype": "absent", "torch_dtype": "float32"},
        {"dtype": "absent"},
        {"head_dim": None},
    ],
    ids=str,
)
def test_older_spellings_are_known(values: dict[str, object], tmp_path: Path) -> None:
    directory = make_llama(tmp_path)
    before = read(directory)
    change(directory, **values)
    after = read(directory)

    assert torch.equal(before.model.rotary_emb.inv_freq, after.model.rotary_emb.inv_freq)
    assert after.config.head_dim == 16


def test_several_files_and_what_old_ones_hold_are_read(tmp_path: Path) -> None:
    directory = make_llama(tmp_path)
    whole = read(directory).state_dict()
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)
    half = sorted(tensors)[: len(tensors) // 2]
    parts = {"a.safetensors": half, "b.safetensors": sorted(tensors.keys() - set(half))}
    for name, names in parts.items():
        save_file({one: tensors[one] for one in names}, directory / name)
    weight_map = {one: name for name, names in parts.items() for one in names}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()

    parted = read(directory).state_dict()

    assert parted.keys() == whole.keys()
    assert all(torch.equal(parted[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"intermediate_size": 64}, r"mlp\.gate_proj\.weight"),
        # Whether there are biases is for the configuration to say, as in transformers.
        ({"attention_bias": True}, r"self_attn\.o_proj\.bias"),
        ({"model_type": "qwen3"}, r"self_attn\.q_norm\.weight"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_the_configuration_are_an_error(
    values: dict[str, object], named: str, tmp_path: Path
) -> None:
    directory = make_llama(tmp_path)
    change(directory, **values)

    with pytest.raises(RuntimeError, match=named):
        read_plain_llama(str(directory), "auto")


@pytest.mark.parametrize(
    "content",
    ["[1]", '"llama"', '{"model_type": "llama", "hidden_act": "silu", "rope_scaling": 5}'],
)
def test_a_configuration_that_is_none_is_transformers_to_refuse(
    content: str, tmp_path: Path, compiled: Path
) -> None:
    directory = make_llama(tmp_path / "model")
    (directory / "config.json").write_text(content)
    spec = EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=64,
        eos_token_ids=(2,),
        cache_directory=str(compiled),
    )

    with pytest.raises(EngineStartError, match="tiny: transformers cannot load"):
        load_model(spec, torch.device("cpu"))


STARTED = """
import sys
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
spec = EngineSpec(model="tiny", directory=sys.argv[1], context_length=64, eos_token_ids=(2,),
                  cache_directory=sys.argv[2], dtype=sys.argv[3])
print(PyTorchBackend().start(spec).engine, "transformers" in sys.modules)
"""


def test_a_plain_model_starts_without_transformers(tmp_path: Path, compiled: Path) -> None:
    directory = make_llama(tmp_path / "model")

    started = subprocess.run(
        [sys.executable, "-c", STARTED, directory, compiled, "fp32"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.stdout == "pytorch False\n", started.stderr
