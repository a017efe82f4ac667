"""OpenVINO GenAI's continuous batching behind HTTP, in one process and on one thread.

usage: PEER_PYTHON -m benchmarks.servers.openvino_genai_server MODEL.gguf PORT

Runs in OpenVINO's own environment. Its ``step`` keeps other Python threads waiting, so steps and
HTTP take turns on the event loop.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import TYPE_CHECKING, Any

import openvino_genai as genai

from benchmarks.servers.front import serve

if TYPE_CHECKING:
    from benchmarks.servers.front import Job

_CACHE_GB = 2
_MAX_SEQUENCES = 256
# More prompt tokens in a step let 32 prompts in at once.
_MAX_BATCH_TOKENS = 2048


class OpenVinoEngine:
    """The pipeline, stepped while anything runs."""

    def __init__(self, gguf: str) -> None:
        scheduler = genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GB
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = _MAX_SEQUENCES
        scheduler.max_num_batched_tokens = _MAX_BATCH_TOKENS
        self._pipeline = genai.ContinuousBatchingPipeline(gguf, scheduler, "CPU")
        self._tokenizer = self._pipeline.get_tokenizer()
        self._numbers = itertools.count()
        self._running: list[tuple[Job, Any]] = []
        self._stepping: asyncio.Task[None] | None = None

    def encode(self, body: dict[str, Any]) -> list[int]:
        """Return the prompt's tokens."""
        if "messages" in body:
            text = self._tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True)
        else:
            text = body["prompt"]
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return [int(token_id) for token_id in encoded.input_ids.data.flatten()]

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of new tokens."""
        text: str = self._tokenizer.decode(token_ids)
        return text

    def submit(self, job: Job) -> None:
        """Add a request, and step while there are any."""
        import numpy as np
        import openvino

        config = genai.GenerationConfig()
        config.max_new_tokens = job.max_tokens
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        prompt = openvino.Tensor(np.array([job.token_ids], dtype=np.int64))
        handle = self._pipeline.add_request(next(self._numbers), prompt, config)
        self._running.append((job, handle))
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.get_running_loop().create_task(self._step())

    async def _step(self) -> None:
        while self._running:
            self._pipeline.step()
            self._running = [pair for pair in self._running if not _hand_on(*pair)]
            # Twice: once for what the step said, once for what came in.
            await asyncio.sleep(0)
            await asyncio.sleep(0)


def _hand_on(job: Job, handle: Any) -> bool:
    """Hand on what is new of a request; return whether it has ended."""
    while handle.can_read():
        for output in handle.read().values():
            job.emit(output.generated_ids)
    is_over: bool = handle.get_status() != genai.GenerationStatus.RUNNING
    if is_over:
        job.end()
    return is_over


if __name__ == "__main__":
    serve(OpenVinoEngine(sys.argv[1]), int(sys.argv[2]))
