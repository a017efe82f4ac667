"""The PyTorch engine against transformers' own generation, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError, EngineStartError
from mm_orch.core.generation import SamplingParams
from mm_orch.core.memory import Memory
from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch import device
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
from mm_orch.optimization.engines.pytorch.device import bound_kv_bytes
from mm_orch.optimization.engines.pytorch.faults import translated_faults
from mm_orch.optimization.engines.pytorch.native import build
from mm_orch.optimization.engines.pytorch.native.quantized import can_quantize
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
    from collections.abc import Callable


@pytest.mark.parametrize(
    "make_model", [make_llama, make_windowed_qwen, make_qwen3, make_mistral, make_olmo2]
)
@pytest.mark.parametrize("chunk", [1000, 6])
@pytest.mark.parametrize("has_compiler", [True, False])
def test_greedy_tokens_equal_those_of_transformers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_model: Callable[[Path], Path],
    chunk: int,
    *,
    has_compiler: bool,
) -> None:
    if not has_compiler:
        monkeypatch.setattr(build, "_COMPILERS", ())
    directory = make_model(tmp_path)
    backend = PyTorchBackend()
    backend.start(spec_of(directory))
    prompt = [(7 * i + 3) % VOCAB_SIZE for i in range(30)]

    expected = greedy_of_transformers(directory, prompt, 20)

    # Up to where the reference chose the token that it was told to end with.
    assert greedy(backend.step, prompt, 20, chunk)[: len(expected)] == expected
    backend.stop()


def test_a_folder_without_a_model_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match=str(tmp_path)) as failure:
        PyTorchBackend().start(spec_of(tmp_path))

    assert "pull it again" in str(failure.value)


def test_a_gpu_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    import msgspec

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    spec = msgspec.structs.replace(spec_of(make_llama(tmp_path)), device="cuda:3")

    with pytest.raises(EngineStartError, match="cuda:3"):
        PyTorchBackend().start(spec)


def test_a_failed_step_leaves_the_engine_usable(tmp_path: Path) -> None:
    backend = PyTorchBackend()
    backend.start(spec_of(make_llama(tmp_path)))
    bad = Sequence(
        sequence_id="bad",
        token_ids=[VOCAB_SIZE + 5],
        params=SamplingParams(max_tokens=1),
        block_ids=[0],
    )

    with pytest.raises(Exception, match="index"):
        backend.step([ScheduledSequence(bad, 1)])

    assert len(greedy(backend.step, [1, 2, 3], 4, 10)) == 4


def test_rows_that_round_the_shape_up_change_no_text(tmp_path: Path) -> None:
    directory = make_llama(tmp_path)
    backend = PyTorchBackend()
    backend.start(spec_of(directory))
    prompt = [(5 * i + 1) % VOCAB_SIZE for i in range(45)]  # 45 tokens run as 48 rows

    [whole, parts] = [greedy(backend.step, prompt, 12, chunk) for chunk in (1000, 15)]

    assert whole == parts
    backend.stop()


def test_kv_memory_is_never_more_than_half_of_the_machines_or_its_containers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "read_memory", lambda: Memory(2**30, 2**33))
    cpu = torch.device("cpu")

    assert bound_kv_bytes(2**32, cpu) == 2**32
    assert not caplog.records
    assert bound_kv_bytes(2**60, cpu) == 2**32
    assert "max_memory_mb is 1099511627776" in caplog.text
    assert "has 8192 MiB in all: 4096 MiB are used" in caplog.text
    assert bound_kv_bytes(2**60, torch.device("cuda")) == 2**60


def can_quantize_here(directory: Path) -> bool:
    library = build.load_library(Path(spec_of(directory).cache_directory))
    return library is not None and can_quantize(library, 32)


def test_rotations_keep_their_precision_whatever_the_weights_have(tmp_path: Path) -> None:
    import msgspec
    from transformers import AutoModelForCausalLM

    directory = make_olmo2(tmp_path)
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    prompt = [(7 * i + 3) % VOCAB_SIZE for i in range(200)]
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt])).logits[0, -1].float()
    for dtype in ("bf16", "auto"):
        backend = PyTorchBackend()
        backend.start(msgspec.structs.replace(spec_of(directory), dtype=dtype))
        assert backend._model is not None
        [buffer] = [
            buffer
            for name, buffer in backend._model.decoder._model.named_buffers()  # type: ignore[union-attr]  # of the generic path
            if name.endswith("rotary_emb.inv_freq")
        ]
        assert buffer.dtype == torch.float32
        told = tell_likeliest(backend, prompt)
        wanted = torch.log_softmax(expected, -1)
        assert told == pytest.approx({one: float(wanted[one]) for one in told}, abs=0.3)
        backend.stop()


@pytest.mark.parametrize("make_model", [make_llama, make_olmo2])
@pytest.mark.parametrize("dtype", ["int4", "int8", "auto"])
def test_quantised_weights_that_lose_nothing_say_what_fp32_says(
    tmp_path: Path, make_model: Callable[[Path], Path], dtype: str
) -> None:
    import msgspec

    directory = snap_to_four_bits(make_model(tmp_path))
    if dtype != "auto" and not can_quantize_here(directory):
        pytest.skip("this processor does not multiply bf16")
    prompt = [(7 * i + 3) % VOCAB_SIZE for i in range(40)]
    told = []
    for one in ("fp32", dtype):
        backend = PyTorchBackend()
        backend.start(msgspec.structs.replace(spec_of(directory), dtype=one))
        told.append(tell_likeliest(backend, prompt))
        backend.stop()

    # The likeliest token, and log probabilities within what bf16 activations leave of them.
    assert max(told[0], key=told[0].__getitem__) == max(told[1], key=told[1].__getitem__)
    shared = told[0].keys() & told[1].keys()
    assert len(shared) >= 3
    assert all(abs(told[0][one] - told[1][one]) < 0.4 for one in shared)


def test_quantised_weights_that_cannot_be_computed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    spec = msgspec.structs.replace(spec_of(make_llama(tmp_path)), dtype="int4")
    monkeypatch.setattr(build, "_COMPILERS", ())

    with pytest.raises(EngineStartError, match=r"tiny .* int4 weights, which needs") as told:
        PyTorchBackend().start(spec)
    assert "models.tiny.quantization" in str(told.value)


@pytest.mark.parametrize(
    ("error", "error_class", "message"),
    [
        (
            RuntimeError("It is broken."),
            EngineFailedError,
            "PyTorch failed in a step: It is broken.",
        ),
        (
            RuntimeError("[cpu] can't allocate memory: no. "),
            EngineOutOfMemoryError,
            "PyTorch ran out of memory: [cpu] can't allocate memory: no.",
        ),
        (MemoryError("none left"), EngineOutOfMemoryError, "PyTorch ran out of memory: none left."),
    ],
)
def test_what_pytorch_raises_is_told_in_one_sentence(
    error: Exception, error_class: type[Exception], message: str
) -> None:
    with pytest.raises(error_class) as told, translated_faults():
        raise error

    assert str(told.value) == message
    assert told.value.__cause__ is error
