"""The stream engine on OpenVINO GenAI's continuous batching."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import platform
import time
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mm_orch.core.errors import (
    ContextLengthError,
    EngineCrashedError,
    EngineError,
    EngineFailedError,
    EngineOutOfMemoryError,
    MuAIError,
)
from mm_orch.optimization.engines.contract import (
    Availability,
    EngineFacts,
    StreamReport,
)
from mm_orch.optimization.engines.openvino import requests
from mm_orch.optimization.engines.openvino.grammars import SeenGrammars
from mm_orch.optimization.engines.openvino.prefixes import PrefixCounter
from mm_orch.optimization.engines.openvino.running import RunningSequence

if TYPE_CHECKING:
    from collections.abc import Iterable

    import openvino_genai

    from mm_orch.core.generation import SequenceStarted, TokenChunk
    from mm_orch.optimization.engines.contract import EngineSpec, Sequence
    from mm_orch.optimization.engines.openvino.loading import PipelineForm

logger = logging.getLogger(__name__)

_LIBRARY = "openvino_genai"
_MACHINES = ("x86_64", "amd64", "aarch64", "arm64")


class OpenVinoEngine:
    """Runs a decoder with OpenVINO GenAI: its batches, its blocks, its draws."""

    name: ClassVar[str] = "openvino"

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._pipeline: openvino_genai.ContinuousBatchingPipeline | None = None
        self._loaded_as: tuple[PipelineForm, EngineSpec] | None = None
        self._prefixes: PrefixCounter | None = None
        self._grammars = SeenGrammars()
        self._max_running = 0
        # By id: the sequence, and when it came. GenAI takes any number of sequences into a step,
        # and looks for what is cached of a prompt when it is added, so they wait here.
        self._waiting: dict[str, tuple[Sequence, float]] = {}
        self._running: dict[str, RunningSequence] = {}
        self._numbers = itertools.count()

    @classmethod
    def probe(cls) -> Availability:
        """Look for the library without importing it."""
        if platform.machine().lower() not in _MACHINES:
            return Availability(
                engine=cls.name,
                is_available=False,
                reason=f"OpenVINO has no build for {platform.machine()}",
                remedy="use pytorch",
            )
        if importlib.util.find_spec(_LIBRARY) is None:
            return Availability(
                engine=cls.name,
                is_available=False,
                reason="not installed: openvino-genai",
                remedy="pip install '.[openvino]'",
            )
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the model, writing its OpenVINO form first where there is none."""
        if self._facts is not None:
            return self._facts
        from mm_orch.optimization.engines.openvino.loading import load_pipeline

        begin_s = time.monotonic()
        self._pipeline, loaded = load_pipeline(spec)
        self._loaded_as = loaded, spec
        self._max_running = spec.max_batch_size
        self._forget_cached()
        self._facts = EngineFacts(
            engine=self.name,
            dtype=loaded.precision.name,
            device=loaded.device.lower(),
            context_length=spec.context_length,
            kv_block_tokens=loaded.block_tokens,
            kv_block_bytes=loaded.block_bytes,
            num_kv_blocks=loaded.num_blocks,
            resumes_exactly=False,
            unsupported=requests.UNSUPPORTED_WITH_SHIFT
            if loaded.model.is_own
            else requests.UNSUPPORTED_WITHOUT_SHIFT,
            guides="none" if loaded.vocabulary is None else "plain",
            max_logprobs=requests.MAX_LOGPROBS,
        )
        logger.info(
            "%s: ready in %.1f s, %s on %s, %d KV blocks of %d tokens",
            spec.model,
            time.monotonic() - begin_s,
            loaded.precision.name,
            loaded.device,
            loaded.num_blocks,
            loaded.block_tokens,
        )
        return self._facts

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; a refusal is told by the next report."""
        self._waiting[sequence.sequence_id] = (sequence, time.monotonic())

    def abort(self, sequence_ids: Iterable[str]) -> None:
        """Drop sequences: GenAI frees their blocks at the end of its next step."""
        for sequence_id in sequence_ids:
            self._waiting.pop(sequence_id, None)
            self._drop(sequence_id)

    @property
    def has_work(self) -> bool:
        """Whether a step is due, be it only to free what was cancelled."""
        return bool(self._waiting) or (
            self._pipeline is not None and self._pipeline.has_non_finished_requests()
        )

    @property
    def wake_fd(self) -> int | None:
        """None: a step is computed when it is asked for."""
        return None

    def advance(self) -> StreamReport:
        """Compute one step and read what it gave to each sequence.

        Raises:
            EngineOutOfMemoryError: host memory ran out.
            EngineFailedError: OpenVINO refused the step.
            EngineCrashedError: it refuses even to go on without the sequences that it lost.
        """
        begin_s = time.monotonic()
        failed = self._admit()
        self._step()
        chunks: list[TokenChunk] = []
        started: list[SequenceStarted] = []
        for sequence_id, running in tuple(self._running.items()):
            chunk = running.read()
            if chunk is None:
                if running.handle.get_status().name == "IGNORED":
                    failed.append((sequence_id, _no_memory(sequence_id)))
                    self._drop(sequence_id)
                continue
            if not running.has_started:
                started.append(running.start(begin_s))
            chunks.append(chunk)
            self._follow(chunk)
        return StreamReport(
            chunks=chunks,
            started=started,
            failed=failed,
            batch_size=len(chunks),
            duration_s=time.monotonic() - begin_s,
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            kv_use_ratio=self._find_use_ratio(),
        )

    def _find_use_ratio(self) -> float | None:
        # GenAI tells it in percent.
        return None if self._pipeline is None else self._pipeline.get_metrics().cache_usage / 100

    def stop(self) -> None:
        """Cancel what runs and free model and KV memory."""
        self.abort((*self._waiting, *self._running))
        try:
            # GenAI complains of blocks that are in use when it goes.
            self._step()
        except EngineError as error:
            logger.warning("the last step before the end failed: %s", error)
        self._pipeline = self._prefixes = self._facts = self._loaded_as = None

    def _forget_cached(self) -> None:
        """Know a pipeline that is new."""
        if self._loaded_as is None:
            return
        form, spec = self._loaded_as
        num_blocks = form.num_blocks if spec.is_reusing else 0
        self._prefixes = PrefixCounter(num_blocks, form.block_tokens, spec.max_batch_size)
        self._grammars = SeenGrammars()

    def _reload(self) -> None:
        """Take a new pipeline, which has no grammars yet."""
        if self._loaded_as is None:
            return
        from mm_orch.optimization.engines.openvino.loading import open_again

        begin_s = time.monotonic()
        # Its memory is free before the next one takes as much.
        self._pipeline = None
        self._pipeline = open_again(*self._loaded_as)
        self._forget_cached()
        logger.info("loaded again in %.1f s to forget grammars", time.monotonic() - begin_s)

    def _admit(self) -> list[tuple[str, MuAIError]]:
        """Hand GenAI as many waiting sequences as there are places; return those it cannot take.

        A pipeline that has seen too many grammars takes none until all have left it.
        """
        failed: list[tuple[str, MuAIError]] = []
        while self._waiting and len(self._running) < self._max_running:
            sequence_id, (sequence, submitted_s) = next(iter(self._waiting.items()))
            if not self._grammars.has_room_for(sequence):
                if self._pipeline is None or self._pipeline.has_non_finished_requests():
                    break
                self._reload()
            del self._waiting[sequence_id]
            try:
                self._running[sequence_id] = self._add(sequence, submitted_s)
            except MuAIError as error:
                failed.append((sequence_id, error))
        return failed

    def _add(self, sequence: Sequence, submitted_s: float) -> RunningSequence:
        import openvino as ov

        if self._pipeline is None or self._facts is None or self._prefixes is None:
            raise EngineFailedError("The openvino engine has not been started.")
        context_length = self._facts.context_length
        if len(sequence.token_ids) >= context_length:
            raise ContextLengthError(
                f"The sequence has {len(sequence.token_ids)} tokens; the openvino engine was"
                f" started for {context_length} of prompt and output together."
            )
        requests.check_supported(sequence, self._facts)
        tokens = np.array([sequence.token_ids], dtype=np.int64)
        try:
            handle = self._pipeline.add_request(
                next(self._numbers),
                ov.Tensor(tokens),
                requests.make_config(sequence, context_length),
            )
        except RuntimeError as error:
            raise EngineFailedError(f"OpenVINO refused the sequence: {error}") from error
        self._grammars.add(sequence)
        return RunningSequence(
            sequence,
            handle,
            submitted_s=submitted_s,
            num_cached_tokens=self._prefixes.add(sequence.sequence_id, sequence.token_ids),
        )

    def _step(self) -> None:
        """Compute a step where there is anything to compute or to free."""
        if self._pipeline is None or not self._pipeline.has_non_finished_requests():
            return
        try:
            self._pipeline.step()
        except (RuntimeError, MemoryError) as error:
            if not self._running:
                raise EngineCrashedError(f"OpenVINO goes on with nothing: {error}") from error
            self.abort(tuple(self._running))
            if isinstance(error, MemoryError) or "alloc" in str(error):
                raise EngineOutOfMemoryError(f"OpenVINO ran out of memory: {error}") from error
            raise EngineFailedError(f"OpenVINO failed in a step: {error}") from error

    def _follow(self, chunk: TokenChunk) -> None:
        if chunk.finish_reason is not None:
            self._running.pop(chunk.sequence_id)
        if self._prefixes is not None:
            self._prefixes.extend(chunk.sequence_id, chunk.token_ids)
            if chunk.finish_reason is not None:
                self._prefixes.remove(chunk.sequence_id)

    def _drop(self, sequence_id: str) -> None:
        running = self._running.pop(sequence_id, None)
        if running is None:
            return
        running.handle.cancel()
        if self._prefixes is not None:
            self._prefixes.remove(sequence_id)


def _no_memory(sequence_id: str) -> EngineOutOfMemoryError:
    return EngineOutOfMemoryError(
        f"OpenVINO has no KV memory for sequence {sequence_id}.",
        remedy="Raise optimization.cache.max_memory_mb.",
    )
