"""The ONNX Runtime engine against transformers and the PyTorch engine, on tiny models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch

from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError, EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.onnx.backend import OnnxBackend
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
from tests.stepping import greedy, greedy_of_transformers, spec_of, tell_likeliest
from tests.tiny_models import (
    VOCAB_SIZE,
    make_llama,
    make_mistral,
    make_olmo2,
    make_qwen3,
    make_windowed_qwen,
    snap_to_four_bits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

onnxruntime = pytest.importorskip("onnxruntime")

PROMPT = [(7 * i + 3) % VOCAB_SIZE for i in range(40)]


@pytest.fixture
def backend() -> Iterator[OnnxBackend]:
    backend = OnnxBackend()
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama"))


def give_biases(directory: Path) -> Path:
    """Fill the biases of queries, keys and values, which begin as zeros."""
    from safetensors.torch import load_file, save_file

    path = directory / "model.safetensors"
    weights = load_file(path)
    torch.manual_seed(3)
    for name, weight in weights.items():
        if name.endswith("_proj.bias"):
            torch.nn.init.uniform_(weight, -1, 1)
    save_file(weights, path, metadata={"format": "pt"})
    return directory


def make_biased_qwen(directory: Path) -> Path:
    return give_biases(make_windowed_qwen(directory))


def make_scaled_llama(directory: Path) -> Path:
    """Write a Llama whose rotations are scaled as in Llama 3."""
    return set_rotation(
        make_llama(directory),
        rope_type="llama3",
        factor=4.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=128,
    )


def set_rotation(directory: Path, **parameters: object) -> Path:
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"] = {**config["rope_parameters"], **parameters}
    path.write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    "make_model", [make_llama, make_scaled_llama, make_biased_qwen, make_qwen3, make_mistral]
)
def test_greedy_tokens_equal_those_of_transformers(
    tmp_path: Path, backend: OnnxBackend, make_model: Callable[[Path], Path]
) -> None:
    directory = make_model(tmp_path)
    backend.start(spec_of(directory))

    expected = greedy_of_transformers(directory, PROMPT, 20)

    for chunk in (1000, 6):
        # Up to where the reference chose the token that it was told to end with.
        assert greedy(backend.step, PROMPT, 20, chunk)[: len(expected)] == expected


def test_what_pytorch_began_goes_on_as_if_nothing_had_happened(
    llama: Path, backend: OnnxBackend
) -> None:
    pytorch = PyTorchBackend()
    pytorch.start(spec_of(llama))
    backend.start(spec_of(llama))

    whole = greedy(pytorch.step, PROMPT, 24, 1000)
    begun = greedy(pytorch.step, PROMPT, 9, 1000)

    assert begun + greedy(backend.step, PROMPT + begun, 15, 1000) == whole
    pytorch.stop()


def test_seeds_penalties_and_probabilities_mean_what_they_mean_in_pytorch(
    llama: Path, backend: OnnxBackend
) -> None:
    params = SamplingParams(
        max_tokens=20,
        temperature=0.9,
        top_p=0.9,
        seed=4,
        frequency_penalty=0.4,
        repetition_penalty=1.2,
        num_logprobs=3,
    )
    pytorch = PyTorchBackend()
    told = []
    for engine in (pytorch, backend):
        engine.start(spec_of(llama))
        sequence = Sequence(
            sequence_id="a", token_ids=list(PROMPT), params=params, block_ids=list(range(16))
        )
        logprobs = []
        while sequence.num_output_tokens < 20:
            num_new = sequence.num_uncomputed_tokens
            [chunk] = engine.step([ScheduledSequence(sequence, num_new)])
            sequence.num_computed_tokens += num_new
            sequence.token_ids.extend(chunk.token_ids)
            assert chunk.logprobs is not None
            logprobs.append(chunk.logprobs[0].logprob)
        told.append((sequence.token_ids, logprobs))
        engine.stop()

    assert told[0][0] == told[1][0]
    assert told[0][1] == pytest.approx(told[1][1], abs=1e-3)


@pytest.mark.parametrize("make_model", [make_llama, make_biased_qwen])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_quantised_weights_say_nearly_what_fp32_says(
    tmp_path: Path, backend: OnnxBackend, make_model: Callable[[Path], Path], dtype: str
) -> None:
    directory = snap_to_four_bits(make_model(tmp_path))
    exact = OnnxBackend()
    exact.start(spec_of(directory))

    facts = backend.start(msgspec.structs.replace(spec_of(directory), dtype=dtype))

    assert facts.dtype == dtype
    told = [tell_likeliest(engine, PROMPT) for engine in (exact, backend)]
    assert max(told[0], key=told[0].__getitem__) == max(told[1], key=told[1].__getitem__)
    shared = told[0].keys() & told[1].keys()
    assert len(shared) >= 3
    # What 8-bit activations leave, and no more: these weights lie on 16 steps.
    assert all(abs(told[0][one] - told[1][one]) < 0.4 for one in shared)
    exact.stop()


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_every_optimisation_level_gives_the_same_text(
    llama: Path, backend: OnnxBackend, level: str
) -> None:
    plain = OnnxBackend()
    plain.start(spec_of(llama))
    settings = {"optimization_level": level}

    backend.start(msgspec.structs.replace(spec_of(llama), settings=settings))

    assert greedy(backend.step, PROMPT, 12, 1000) == greedy(plain.step, PROMPT, 12, 1000)
    assert backend._runner is not None
    used = backend._runner._session.get_session_options().graph_optimization_level
    assert used.name == {"none": "ORT_DISABLE_ALL"}.get(level, f"ORT_ENABLE_{level.upper()}")
    plain.stop()


def test_an_unknown_optimisation_level_is_refused(llama: Path, backend: OnnxBackend) -> None:
    settings = {"optimization_level": "most"}

    with pytest.raises(EngineStartError, match="most; allowed are none, basic, extended, all"):
        backend.start(msgspec.structs.replace(spec_of(llama), settings=settings))


def test_an_absent_execution_provider_is_skipped_with_a_warning(
    llama: Path, backend: OnnxBackend, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"execution_providers": ["NoSuchProvider", "CPUExecutionProvider"]}

    facts = backend.start(msgspec.structs.replace(spec_of(llama), settings=settings))

    assert facts.device == "cpu"
    assert "has no NoSuchProvider here" in caplog.text


def test_execution_providers_are_used_in_the_configured_order(llama: Path) -> None:
    from mm_orch.optimization.engines.onnx.session import choose_providers

    present = onnxruntime.get_available_providers()[::-1]
    settings = {"execution_providers": [*present, "NoSuchProvider"]}
    spec = msgspec.structs.replace(spec_of(llama), device="auto", settings=settings)

    assert choose_providers(spec) == tuple(present)


def test_without_any_configured_provider_those_that_are_there_are_named(
    llama: Path, backend: OnnxBackend
) -> None:
    settings = {"execution_providers": ["NoSuchProvider"]}

    with pytest.raises(EngineStartError, match=r"\[NoSuchProvider\].*CPUExecutionProvider"):
        backend.start(msgspec.structs.replace(spec_of(llama), settings=settings))


def test_a_gpu_that_is_not_there_is_refused_by_name(llama: Path, backend: OnnxBackend) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU")

    with pytest.raises(EngineStartError, match=r"system\.device is cuda:3"):
        backend.start(msgspec.structs.replace(spec_of(llama), device="cuda:3"))


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_number_formats_it_cannot_compute_in_are_refused(
    llama: Path, backend: OnnxBackend, dtype: str
) -> None:
    with pytest.raises(EngineStartError, match=f"{dtype}, only in fp32, int8, int4"):
        backend.start(msgspec.structs.replace(spec_of(llama), dtype=dtype))


def test_other_architectures_are_refused_by_name(tmp_path: Path, backend: OnnxBackend) -> None:
    with pytest.raises(EngineStartError, match=r"llama, mistral, qwen2, qwen3.*model_type olmo2"):
        backend.start(spec_of(make_olmo2(tmp_path / "olmo2")))
    dynamic = set_rotation(make_llama(tmp_path / "dynamic"), rope_type="dynamic", factor=2.0)
    with pytest.raises(EngineStartError, match="rope_type dynamic"):
        backend.start(spec_of(dynamic))


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path, backend: OnnxBackend) -> None:
    with pytest.raises(EngineStartError, match="pull it again"):
        backend.start(spec_of(tmp_path))


def test_a_failed_step_leaves_the_engine_usable(llama: Path, backend: OnnxBackend) -> None:
    backend.start(spec_of(llama))
    before = greedy(backend.step, PROMPT, 6, 1000)
    bad = Sequence(
        sequence_id="bad",
        token_ids=[VOCAB_SIZE + 5],
        params=SamplingParams(max_tokens=1),
        block_ids=[0],
    )

    with pytest.raises(EngineFailedError, match="ONNX Runtime failed in a step"):
        backend.step([ScheduledSequence(bad, 1)])

    assert greedy(backend.step, PROMPT, 6, 1000) == before


def test_memory_that_the_runtime_cannot_have_is_told_as_such() -> None:
    from onnx import TensorProto, helper

    from mm_orch.optimization.engines.onnx.faults import translated_faults

    huge = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["size"], ["zeros"])],
        "huge",
        [helper.make_tensor_value_info("size", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["size"])],
    )
    model = helper.make_model(huge, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )

    with pytest.raises(EngineOutOfMemoryError, match="ran out of memory"), translated_faults():
        session.run(None, {"size": np.array([2**45])})


def test_a_step_before_a_start_is_refused(backend: OnnxBackend) -> None:
    with pytest.raises(EngineFailedError, match="not been started"):
        backend.step([])
