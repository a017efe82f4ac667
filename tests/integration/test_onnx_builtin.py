"""The ONNX Runtime engine with the real small model: PyTorch's text, token for token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.generation import Message, SamplingParams
from mm_orch.models.chat_template import ChatTemplate, encode_chat
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.onnx.backend import OnnxBackend
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
from tests.prompts import chat_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.models.stored import StoredModel
    from mm_orch.optimization.engines.contract import StepBackend

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def spec(builtin_model: StoredModel, data_directory: Path) -> EngineSpec:
    return EngineSpec(
        model="smollm2-135m",
        directory=builtin_model.directory,
        context_length=2048,
        eos_token_ids=builtin_model.eos_token_ids,
        dtype="fp32",
        device="cpu",
        num_threads=2,
        # Where a server of this user keeps the export too: it is made once.
        cache_directory=str(data_directory / "compiled"),
        max_kv_bytes=2**29,
    )


@pytest.fixture(scope="module")
def engines(spec: EngineSpec) -> Iterator[tuple[StepBackend, StepBackend]]:
    engines = (PyTorchBackend(), OnnxBackend())
    for engine in engines:
        engine.start(spec)
    yield engines
    for engine in engines:
        engine.stop()


@pytest.fixture(scope="module")
def prompts(builtin_model: StoredModel) -> list[list[int]]:
    from pathlib import Path

    directory = Path(builtin_model.directory)
    codec, template = TextCodec.from_directory(directory), ChatTemplate.find_in_directory(directory)
    assert template is not None
    return [
        encode_chat(codec, template, (Message(role="user", content=text),))
        for text in chat_prompts()
    ]


def continue_together(
    engine: StepBackend, prompts: list[list[int]], num_tokens: int
) -> list[list[int]]:
    """Return the likeliest continuation of each, all in one batch of up to 512 prompt tokens."""
    blocks = [-(-(len(prompt) + num_tokens) // 16) for prompt in prompts]
    sequences = [
        Sequence(
            sequence_id=str(index),
            token_ids=list(prompt),
            params=SamplingParams(max_tokens=num_tokens, temperature=0.0),
            block_ids=list(range(sum(blocks[:index]), sum(blocks[: index + 1]))),
        )
        for index, prompt in enumerate(prompts)
    ]
    by_id = {sequence.sequence_id: sequence for sequence in sequences}
    while unfinished := [one for one in sequences if one.num_output_tokens < num_tokens]:
        budget, batch = 512, []
        for sequence in unfinished:
            num_new = min(budget, sequence.num_uncomputed_tokens)
            if num_new:
                batch.append(ScheduledSequence(sequence, num_new))
                budget -= num_new
        chunks = engine.step(batch)
        for scheduled in batch:
            scheduled.sequence.num_computed_tokens += scheduled.num_new_tokens
        for chunk in chunks:
            by_id[chunk.sequence_id].token_ids.extend(chunk.token_ids)
    return [one.token_ids[one.num_prompt_tokens :] for one in sequences]


def test_a_few_greedy_answers_equal_pytorchs(
    engines: tuple[StepBackend, StepBackend], prompts: list[list[int]]
) -> None:
    pytorch, onnx = (continue_together(engine, prompts[:4], 32) for engine in engines)

    assert onnx == pytorch


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_all_greedy_answers_equal_pytorchs(
    engines: tuple[StepBackend, StepBackend], prompts: list[list[int]]
) -> None:
    pytorch, onnx = (continue_together(engine, prompts, 64) for engine in engines)

    assert onnx == pytorch


def test_an_answer_that_pytorch_began_goes_on_as_pytorch_would_have_gone_on(
    engines: tuple[StepBackend, StepBackend], prompts: list[list[int]]
) -> None:
    pytorch, onnx = engines
    [whole] = continue_together(pytorch, prompts[:1], 40)

    [rest] = continue_together(onnx, [prompts[0] + whole[:13]], 27)

    assert whole[:13] + rest == whole


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_quantised_weights_choose_nearly_the_tokens_of_fp32(
    spec: EngineSpec,
    engines: tuple[StepBackend, StepBackend],
    prompts: list[list[int]],
    dtype: str,
) -> None:
    _, exact = engines
    quantized = OnnxBackend()
    quantized.start(msgspec.structs.replace(spec, dtype=dtype))

    texts = continue_together(exact, prompts[:8], 8)
    begun = [prompt + text[:-1] for prompt, text in zip(prompts[:8], texts, strict=True)]
    chosen = continue_together(quantized, begun, 1)

    num_same = sum(one == text[-1:] for one, text in zip(chosen, texts, strict=True))
    assert num_same >= 6
    quantized.stop()
