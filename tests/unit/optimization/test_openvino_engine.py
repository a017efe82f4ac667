"""The OpenVINO engine against transformers' own generation, on tiny models."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.errors import EngineStartError
from mm_orch.core.generation import FinishReason, SamplingParams
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.openvino.engine import OpenVinoEngine
from tests.contracts.streaming import ModelReference, Told, advance, make, run
from tests.tiny_models import (
    EOS_TOKEN_ID,
    VOCAB_SIZE,
    make_llama,
    make_mistral,
    make_olmo2,
    make_qwen3,
    make_stretched_llama,
    make_tied_qwen2,
    make_wide_llama,
    snap_to_four_bits,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("openvino_genai", reason="openvino: not installed")

GREEDY = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
PROMPT = [(7 * i + 3) % VOCAB_SIZE for i in range(60)]


def spec_of(directory: Path, **changes: object) -> EngineSpec:
    spec = EngineSpec(
        model="tiny",
        directory=str(directory),
        context_length=256,
        eos_token_ids=(EOS_TOKEN_ID,),
        dtype="fp32",
        device="cpu",
        num_threads=2,
        cache_directory=str(directory.parent / "compiled"),
        max_batch_tokens=64,
    )
    return msgspec.structs.replace(spec, **changes)


@pytest.fixture
def engine() -> Iterator[OpenVinoEngine]:
    engine = OpenVinoEngine()
    yield engine
    engine.stop()


def kept_folders(directory: Path) -> list[Path]:
    return sorted(
        path for path in (directory.parent / "compiled/openvino").iterdir() if path.is_dir()
    )


@pytest.mark.parametrize(
    "make_model", [make_llama, make_wide_llama, make_stretched_llama, make_tied_qwen2, make_qwen3]
)
def test_greedy_tokens_equal_those_of_transformers(
    engine: OpenVinoEngine, tmp_path: Path, make_model: Callable[[Path], Path]
) -> None:
    directory = make_model(tmp_path / "model")
    sequence = make("a", PROMPT, GREEDY)
    expected, _ = ModelReference(directory).generate(sequence)

    facts = engine.start(spec_of(directory))

    assert facts.dtype == "fp32"
    assert run(engine, [sequence]).tokens["a"] == expected


def test_a_window_that_holds_the_whole_context_hides_nothing(
    engine: OpenVinoEngine, tmp_path: Path
) -> None:
    directory = make_mistral(tmp_path / "model")
    sequence = make("a", PROMPT[:3], msgspec.structs.replace(GREEDY, max_tokens=5))

    with pytest.raises(EngineStartError, match=r"the last 8 tokens only.*context is 256"):
        engine.start(spec_of(directory))
    engine.start(spec_of(directory, context_length=8))

    expected, _ = ModelReference(directory).generate(sequence)
    assert run(engine, [sequence]).tokens["a"] == expected


def test_a_model_of_another_shape_is_refused(engine: OpenVinoEngine, tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match="not olmo2"):
        engine.start(spec_of(make_olmo2(tmp_path / "model")))


def test_a_tensor_that_has_no_place_is_refused(engine: OpenVinoEngine, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    directory = make_llama(tmp_path / "model")
    extra = "model.layers.0.self_attn.gate.weight"
    save_file({extra: torch.ones(4)}, directory / "more.safetensors")

    with pytest.raises(EngineStartError, match=f"1 of its tensors, such as {extra}"):
        engine.start(spec_of(directory))
    assert kept_folders(directory) == []


def test_weights_that_were_4_bit_stay_so_and_answer_alike(
    engine: OpenVinoEngine, tmp_path: Path
) -> None:
    directory = snap_to_four_bits(make_wide_llama(tmp_path / "model"))
    params = msgspec.structs.replace(GREEDY, max_tokens=1, num_logprobs=0)
    sequence = make("a", PROMPT, params)
    [token], [expected] = ModelReference(directory).generate(sequence)

    facts = engine.start(spec_of(directory, dtype="auto"))

    told = run(engine, [sequence])
    assert facts.dtype == "int4"
    assert told.tokens["a"] == [token]
    # Products of 4-bit weights round what goes into them to 8 bits.
    assert told.logprobs["a"][0].logprob == pytest.approx(expected.logprob, abs=0.1)


def test_other_weights_are_not_made_smaller_than_bf16_unasked(
    engine: OpenVinoEngine, tmp_path: Path
) -> None:
    facts = engine.start(spec_of(make_wide_llama(tmp_path / "model"), dtype="auto"))

    assert facts.dtype in {"bf16", "fp32"}


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "int8", "int4"])
def test_a_format_that_is_asked_for_is_used(
    engine: OpenVinoEngine, tmp_path: Path, dtype: str
) -> None:
    directory = make_wide_llama(tmp_path / "model")
    sequence = make("a", PROMPT, msgspec.structs.replace(GREEDY, num_logprobs=0))
    facts = engine.start(spec_of(directory, dtype=dtype))

    told = run(engine, [sequence])

    assert facts.dtype == dtype
    assert len(told.tokens["a"]) == 20
    assert sum(one.logprob for one in told.logprobs["a"]) < 0


def test_a_model_is_written_once_for_each_format(engine: OpenVinoEngine, tmp_path: Path) -> None:
    directory = make_llama(tmp_path / "model")
    engine.start(spec_of(directory))
    [kept] = kept_folders(directory)
    written_ns = (kept / "openvino_model.bin").stat().st_mtime_ns
    engine.stop()

    engine.start(spec_of(directory))
    engine.stop()
    engine.start(spec_of(directory, dtype="int8"))

    assert len(kept_folders(directory)) == 2
    assert (kept / "openvino_model.bin").stat().st_mtime_ns == written_ns


def test_a_damaged_copy_is_written_anew(engine: OpenVinoEngine, tmp_path: Path) -> None:
    directory = make_llama(tmp_path / "model")
    engine.start(spec_of(directory))
    engine.stop()
    [kept] = kept_folders(directory)
    (kept / "muai-openvino.json").write_text("{")

    engine.start(spec_of(directory))

    assert len(run(engine, [make("a", PROMPT, GREEDY)]).tokens["a"]) == 20


def test_a_model_that_has_changed_is_written_anew(engine: OpenVinoEngine, tmp_path: Path) -> None:
    directory = make_llama(tmp_path / "model")
    engine.start(spec_of(directory))
    engine.stop()
    make_stretched_llama(directory)

    engine.start(spec_of(directory))

    expected, _ = ModelReference(directory).generate(make("a", PROMPT, GREEDY))
    assert run(engine, [make("a", PROMPT, GREEDY)]).tokens["a"] == expected


@pytest.fixture
def shipped(engine: OpenVinoEngine, tmp_path: Path) -> Path:
    """A folder that holds an OpenVINO model."""
    directory = make_llama(tmp_path / "model")
    engine.start(spec_of(directory))
    engine.stop()
    [kept] = kept_folders(directory)
    (kept / "muai-openvino.json").unlink()
    shutil.copytree(kept, tmp_path / "shipped")
    return tmp_path / "shipped"


def test_an_openvino_model_is_read_as_it_is(
    engine: OpenVinoEngine, shipped: Path, tmp_path: Path
) -> None:
    sequence = make("a", PROMPT, GREEDY)
    expected, _ = ModelReference(tmp_path / "model").generate(sequence)

    facts = engine.start(spec_of(shipped))

    assert run(engine, [sequence]).tokens["a"] == expected
    assert facts.num_kv_blocks * facts.kv_block_tokens == 256
    # Whether its logits are shifted is not known, and GenAI penalises negative ones wrongly.
    assert {"presence_penalty", "frequency_penalty"} < set(facts.unsupported)
    with pytest.raises(EngineStartError, match="whose weights stay as they are"):
        OpenVinoEngine().start(spec_of(shipped, dtype="int4"))


def test_a_device_that_is_not_there_is_refused(engine: OpenVinoEngine, tmp_path: Path) -> None:
    import openvino as ov

    if "NPU" in ov.Core().available_devices:
        pytest.skip("this machine has an NPU")
    spec = spec_of(make_llama(tmp_path / "model"), settings={"device": "NPU"})

    with pytest.raises(EngineStartError, match=r"device is NPU, but OpenVINO finds .*CPU"):
        engine.start(spec)


def test_a_sequence_ends_where_the_context_does(engine: OpenVinoEngine, tmp_path: Path) -> None:
    engine.start(spec_of(make_llama(tmp_path / "model")))
    params = msgspec.structs.replace(GREEDY, max_tokens=1000)

    told = run(engine, [make("a", PROMPT, params)])

    assert len(told.tokens["a"]) == 256 - len(PROMPT)
    assert told.reasons == {"a": FinishReason.LENGTH}


def count_steps(engine: OpenVinoEngine, told: Told) -> int:
    num_steps = 0
    while not told.tokens:
        advance(engine, told)
        num_steps += 1
    return num_steps


@pytest.mark.parametrize("num_kv_blocks", [12, 40])
def test_tokens_told_as_cached_were_not_computed(
    engine: OpenVinoEngine, tmp_path: Path, num_kv_blocks: int
) -> None:
    directory = make_llama(tmp_path / "model")
    block_bytes = engine.start(spec_of(directory)).kv_block_bytes
    engine.stop()
    spec = spec_of(
        directory,
        max_kv_bytes=num_kv_blocks * block_bytes,
        max_batch_size=2,
        # A step takes a block of prompt, so that steps show how many were computed.
        max_batch_tokens=32,
    )
    assert engine.start(spec).num_kv_blocks == num_kv_blocks
    dice = random.Random(3)  # noqa: S311 - a workload
    beginnings = [dice.choices(range(VOCAB_SIZE), k=200) for _ in range(4)]
    total = 0

    for number in range(60):
        prompt = dice.choice(beginnings)[: dice.randrange(20, 200)] + dice.choices(range(9), k=3)
        engine.submit(make(str(number), prompt, msgspec.structs.replace(GREEDY, max_tokens=8)))
        told = Told()
        num_steps = count_steps(engine, told)
        run(engine, told=told)
        num_cached = told.started[str(number)]
        total += num_cached

        assert num_steps <= -(-(len(prompt) - num_cached) // 32)

    assert total > 500


def test_the_next_turn_of_a_conversation_is_told_as_cached(
    engine: OpenVinoEngine, tmp_path: Path
) -> None:
    engine.start(spec_of(make_llama(tmp_path / "model"), max_kv_bytes=2**21))
    first = run(engine, [make("a", PROMPT, GREEDY)])
    turn = [*PROMPT, *first.tokens["a"], 5, 6, 7]

    second = run(engine, [make("b", turn, GREEDY)])

    # Prompt and answer are 80 tokens: two whole blocks and half of one.
    assert first.started == {"a": 0}
    assert second.started == {"b": 64}
