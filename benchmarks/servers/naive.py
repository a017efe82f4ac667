"""What most people write first: transformers' generate behind HTTP, one request after another.

usage: python -m benchmarks.servers.naive MODEL_DIRECTORY PORT
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from benchmarks.servers.front import serve
from benchmarks.servers.transformers_text import TransformersText, load_model

if TYPE_CHECKING:
    from benchmarks.servers.front import Job

# Greedy, and no token ends an answer before its length does.
NO_END = -1


class NaiveEngine(TransformersText):
    """One thread that generates for one request at a time, first come, first served."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._model = load_model(directory)
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.put(job)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                self._generate(job)
            except Exception as fault:  # noqa: BLE001 - told to the client
                job.end(f"{type(fault).__name__}: {fault}")

    def _generate(self, job: Job) -> None:
        token_ids = torch.tensor([job.token_ids])
        self._model.generate(
            input_ids=token_ids,
            attention_mask=torch.ones_like(token_ids),
            generation_config=GenerationConfig(
                max_new_tokens=job.max_tokens, do_sample=False, eos_token_id=NO_END, pad_token_id=0
            ),
            streamer=_JobStreamer(job),
        )
        job.end()


class _JobStreamer(BaseStreamer):  # type: ignore[misc]  # transformers gives no types
    def __init__(self, job: Job) -> None:
        self._job = job
        self._is_prompt = True

    def put(self, value: Any) -> None:
        # The prompt comes first.
        if not self._is_prompt:
            self._job.emit(value.flatten().tolist())
        self._is_prompt = False

    def end(self) -> None:
        """The engine's own thread says so."""


if __name__ == "__main__":
    serve(NaiveEngine(sys.argv[1]), int(sys.argv[2]))
