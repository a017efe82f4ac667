"""Text against transformers' own on the same weights, and a request alone against among others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch import AsyncMuAI
from mm_orch.config import load_config
from mm_orch.core.generation import SamplingParams
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence, Sequence
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend
from tests.available import require_engine
from tests.prompts import chat_prompts, long_prompts, raw_prompts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.models.stored import StoredModel

pytestmark = pytest.mark.model

# In bf16, whose numbers have 8 bits of precision, logits of about 20 are known to about 0.1, and
# different batch shapes round differently. Two tokens closer than this may change places.
BF16_LOGIT_TOLERANCE = 0.5


BLOCKS_EACH = 20


class Reference:
    """transformers' generate in fp32, greedy; what it has said once is not computed again."""

    def __init__(self, directory: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch: Any = torch
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self._said: dict[tuple[tuple[int, ...], int], str] = {}

    def chat(self, prompt: str, num_tokens: int) -> str:
        ids = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        return self._say(tuple(ids), num_tokens)

    def raw(self, prompt: str, num_tokens: int) -> str:
        return self._say(tuple(self.tokenizer(prompt)["input_ids"]), num_tokens)

    def _say(self, ids: tuple[int, ...], num_tokens: int) -> str:
        if (ids, num_tokens) not in self._said:
            self._said[ids, num_tokens] = self._generate(ids, num_tokens)
        return self._said[ids, num_tokens]

    def _generate(self, ids: tuple[int, ...], num_tokens: int) -> str:
        output = self._model.generate(
            self._torch.tensor([ids]),
            attention_mask=self._torch.ones(1, len(ids), dtype=self._torch.long),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=0,
        )[0, len(ids) :]
        return str(self.tokenizer.decode(output, skip_special_tokens=True))


@pytest.fixture(scope="module")
def reference(builtin_model: StoredModel) -> Reference:
    return Reference(builtin_model.directory)


@dataclass(frozen=True)
class Question:
    prompt: str
    raw: bool = False


ENGINES = ("pytorch", "onnx", "openvino")


async def answer_all(engine: str, questions: list[Question], num_tokens: int) -> list[str]:
    """Answer all questions at the same time, in fp32 and greedily, through the whole product."""
    require_engine(engine)
    overrides = {
        "models.smollm2-135m.engines": [engine],
        "models.smollm2-135m.dtype": "fp32",
        "optimization.batcher.max_batch_size": len(questions),
    }
    config = load_config(path=None, environ={}, overrides=overrides).config
    async with AsyncMuAI(config) as muai:
        answers = await asyncio.gather(
            *(
                muai.generate(q.prompt, raw=q.raw, temperature=0.0, max_tokens=num_tokens)
                for q in questions
            )
        )
    return [answer.text for answer in answers]


async def check_equal(
    engine: str, reference: Reference, questions: list[Question], num_tokens: int
) -> None:
    texts = await answer_all(engine, questions, num_tokens)
    for question, text in zip(questions, texts, strict=True):
        expected = reference.raw if question.raw else reference.chat
        assert text == await asyncio.to_thread(expected, question.prompt, num_tokens), question


@pytest.mark.parametrize("engine", ENGINES)
async def test_greedy_text_equals_that_of_transformers(engine: str, reference: Reference) -> None:
    chat = [*chat_prompts()[:3], chat_prompts()[-7]]
    questions = [Question(p) for p in chat] + [Question(p, raw=True) for p in raw_prompts()[:2]]
    await check_equal(engine, reference, questions, 24)


@pytest.mark.long
@pytest.mark.parametrize("engine", ENGINES)
async def test_greedy_text_of_all_prompts_at_once_equals_that_of_transformers(
    engine: str,
    reference: Reference,
) -> None:
    assert all(len(reference.tokenizer(p)["input_ids"]) > 500 for p in long_prompts())
    chat = [*chat_prompts(), *long_prompts()]
    questions = [Question(p) for p in chat] + [Question(p, raw=True) for p in raw_prompts()]
    assert len(questions) > 50
    await check_equal(engine, reference, questions, 64)


@pytest.fixture(scope="module")
def bf16_backend(builtin_model: StoredModel, data_directory: Path) -> Iterator[PyTorchBackend]:
    backend = PyTorchBackend()
    backend.start(
        EngineSpec(
            model="m",
            directory=builtin_model.directory,
            context_length=builtin_model.context_length,
            eos_token_ids=builtin_model.eos_token_ids,
            dtype="bf16",
            device="cpu",
            num_threads=2,
            cache_directory=str(data_directory / "compiled"),
            max_kv_bytes=2**28,
        )
    )
    yield backend
    backend.stop()


def greedy_with_logprobs(
    backend: PyTorchBackend, prompts: list[list[int]], num_tokens: int
) -> list[list[tuple[int, dict[int, float]]]]:
    """Return, for each prompt, each step's token and the log probabilities of the likeliest."""
    params = SamplingParams(max_tokens=num_tokens, temperature=0.0, num_logprobs=20)
    sequences = [
        Sequence(
            sequence_id=str(index),
            token_ids=list(prompt),
            params=params,
            block_ids=list(range(index * BLOCKS_EACH, (index + 1) * BLOCKS_EACH)),
        )
        for index, prompt in enumerate(prompts)
    ]
    steps: list[list[tuple[int, dict[int, float]]]] = [[] for _ in prompts]
    for _ in range(num_tokens):
        batch = [ScheduledSequence(s, s.num_uncomputed_tokens) for s in sequences]
        chunks = backend.step(batch)
        for scheduled, chunk, taken in zip(batch, chunks, steps, strict=True):
            scheduled.sequence.num_computed_tokens += scheduled.num_new_tokens
            scheduled.sequence.token_ids.extend(chunk.token_ids)
            assert chunk.logprobs is not None
            taken.append((chunk.token_ids[0], dict(chunk.logprobs[0].top)))
    return steps


def test_in_bf16_neighbours_change_only_near_ties(
    bf16_backend: PyTorchBackend, builtin_model: StoredModel
) -> None:
    codec = TextCodec.from_directory(Path(builtin_model.directory))
    prompts = [codec.encode_text(text) for text in chat_prompts()[:4]]

    together = greedy_with_logprobs(bf16_backend, prompts, 24)

    for prompt, among in zip(prompts, together, strict=True):
        [alone] = greedy_with_logprobs(bf16_backend, [prompt], 24)
        for (token_alone, top), (token_among, _) in zip(alone, among, strict=True):
            if token_alone != token_among:
                # From here on the texts go their own ways.
                assert top[token_alone] - top[token_among] < BF16_LOGIT_TOLERANCE
                break
