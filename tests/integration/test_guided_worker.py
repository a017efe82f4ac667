"""A guide crosses the process line, and an answer goes on inside its JSON in another worker."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import zmq.asyncio

from mm_orch.batching.batcher import BatcherSpec
from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import FinishReason, SamplingParams, SequenceStarted
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.core.observers import ObserverFanOut
from mm_orch.models.text import TextCodec
from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.workers.messages import CacheSpec, SequenceOrder, WorkerSpec
from tests.launched_worker import launched
from tests.tiny_models import EOS_TOKEN_ID
from tests.tiny_tokenizer import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mm_orch.workers.stream import TokenStream
    from mm_orch.workers.worker import Worker

PROMPT = (70, 90, 110)
SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["fox", "dog"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["kind", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
async def worker(directory: Path) -> AsyncIterator[Worker]:
    context = zmq.asyncio.Context()
    spec = WorkerSpec(
        address="",
        engine="echo",
        engine_spec=EngineSpec(
            model="m",
            directory=str(directory),
            cache_directory="",
            context_length=2000,
            eos_token_ids=(EOS_TOKEN_ID,),
        ),
        batcher=BatcherSpec(max_batch_size=4, max_batch_tokens=64),
        cache=CacheSpec(),
    )
    async with launched(spec, context=context, observer=ObserverFanOut([])) as worker:
        yield worker
    context.term()


def order(name: str, schema: object, delivered: tuple[int, ...] = ()) -> SequenceOrder:
    return SequenceOrder(
        sequence_id=name,
        token_ids=(*PROMPT, *delivered),
        num_prompt_tokens=len(PROMPT),
        params=SamplingParams(
            max_tokens=80,
            stop_token_ids=(EOS_TOKEN_ID,),
            guide=Guide(shape=JsonSchemaShape(json.dumps(schema))),
        ),
    )


async def read(stream: TokenStream) -> tuple[list[int], FinishReason | None]:
    token_ids: list[int] = []
    reason = None
    async with asyncio.timeout(60):
        while not stream.is_done:
            update = await stream.next()
            if not isinstance(update, SequenceStarted):
                token_ids.extend(update.token_ids)
                reason = update.finish_reason
    return token_ids, reason


async def test_an_answer_goes_on_inside_its_json_where_another_worker_left_it(
    worker: Worker, directory: Path
) -> None:
    whole, reason = await read(worker.submit([order("whole", SCHEMA)]))
    half = tuple(whole[: len(whole) // 2])

    rest, _ = await read(worker.submit([order("rest", SCHEMA, half)]))

    assert reason is FinishReason.STOP
    assert [*half, *rest] == whole
    answer = json.loads(TextCodec.from_directory(directory).decode(whole))
    assert answer["kind"] in {"fox", "dog"}


async def test_a_guide_that_only_the_worker_refuses_is_the_callers_error(worker: Worker) -> None:
    with pytest.raises(InvalidValueError, match="nonsense"):
        await read(worker.submit([order("bad", {"type": "nonsense"})]))

    assert (await read(worker.submit([order("good", SCHEMA)])))[1] is FinishReason.STOP
