"""Transformers' own continuous batching behind HTTP.

usage: python -m benchmarks.servers.transformers_continuous MODEL_DIRECTORY PORT
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from benchmarks.servers.front import serve
from benchmarks.servers.transformers_text import TransformersText, load_model

if TYPE_CHECKING:
    from benchmarks.servers.front import Job

_NO_END = -1
_MEMORY_SHARE = 0.12
_MAX_BATCH_TOKENS = 2048


class ContinuousEngine(TransformersText):
    """The library's manager, with its defaults but for memory.

    By default it takes nearly all memory that the machine has, used by others or not, and the
    kernel then kills it. This much holds 32 conversations of ten turns.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        settings = GenerationConfig(do_sample=False, eos_token_id=_NO_END, pad_token_id=0)
        memory = ContinuousBatchingConfig(
            max_memory_percent=_MEMORY_SHARE, max_batch_tokens=_MAX_BATCH_TOKENS
        )
        self._manager = load_model(directory).init_continuous_batching(
            generation_config=settings, continuous_batching_config=memory
        )
        self._manager.start()
        self._names = map(str, itertools.count())

    def submit(self, job: Job) -> None:
        """Add a request; its tokens come on the event loop."""
        name = next(self._names)
        num_seen = 0

        def take(result: Any) -> None:
            nonlocal num_seen
            new = result.generated_tokens[num_seen:]
            num_seen = len(result.generated_tokens)
            if new:
                job.emit(new)
            if result.is_finished():
                job.end(result.error)

        self._manager.register_result_handler(name, take)
        self._manager.add_request(
            job.token_ids, request_id=name, max_new_tokens=job.max_tokens, streaming=True
        )


if __name__ == "__main__":
    serve(ContinuousEngine(sys.argv[1]), int(sys.argv[2]))
