"""The stream engine on vLLM: hands sequences to its AsyncLLM and reports what its steps bring."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mm_orch.core.errors import EngineFailedError, EngineStartError
from mm_orch.models.grammar import GrammarCompiler
from mm_orch.optimization.engines.contract import EngineFacts, StreamReport
from mm_orch.optimization.engines.probing import look_for_libraries
from mm_orch.optimization.engines.vllm.leftovers import Leftovers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.core.errors import EngineError
    from mm_orch.optimization.engines.contract import Availability, EngineSpec, Sequence
    from mm_orch.optimization.engines.vllm.background import BackgroundLLM

logger = logging.getLogger(__name__)

_MANY_WAKE_UPS = 1 << 16


class VllmEngine:
    """Runs a model in vLLM, which batches and reuses prefixes by itself."""

    name: ClassVar[str] = "vllm"
    takes_gpus: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._llm: BackgroundLLM | None = None
        self._leftovers: Leftovers | None = None
        self._unfinished_ids: set[str] = set()
        # Filled by the loop's thread: appending to a deque and taking from it need no lock.
        self._reports: deque[StreamReport] = deque()
        self._death: EngineError | None = None
        self._wake_fd: int | None = None
        self._waking_fd: int | None = None

    @classmethod
    def probe(cls) -> Availability:
        """Look for vLLM without importing it."""
        return look_for_libraries(
            cls.name,
            ("vllm",),
            remedy="scripts/setup-engine vllm, and set optimization.vllm.python to the interpreter"
            " that it names; or pip install '.[vllm]'",
        )

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Start vLLM's processes and wait for the model to be loaded.

        Raises:
            EngineStartError: vLLM cannot run here, or not this model; with vLLM's own words.
        """
        if self._facts is not None:
            return self._facts
        begin_s = time.monotonic()
        self._leftovers = Leftovers()
        folder = tempfile.mkdtemp(prefix="muai-vllm-")
        self._leftovers.add(folder)
        try:
            configuration = self._launch(spec, folder)
        except BaseException:
            self.stop()
            raise
        self._leftovers.add_shared_memory()
        self._facts = _find_facts(self.name, configuration)
        logger.info(
            "%s: ready in %.1f s, %s on %s, %d KV blocks of %d tokens",
            spec.model,
            time.monotonic() - begin_s,
            self._facts.dtype,
            self._facts.device,
            self._facts.num_kv_blocks,
            self._facts.kv_block_tokens,
        )
        return self._facts

    def submit(self, sequence: Sequence) -> None:
        """Hand a sequence to vLLM; see StreamEngine."""
        if self._llm is None:
            raise EngineFailedError("The vLLM engine has not been started.")
        self._unfinished_ids.add(sequence.sequence_id)
        self._llm.submit(sequence)

    def abort(self, sequence_ids: Iterable[str]) -> None:
        """Have vLLM drop sequences; see StreamEngine."""
        dropped = self._unfinished_ids.intersection(sequence_ids)
        self._unfinished_ids -= dropped
        if dropped and self._llm is not None:
            self._llm.abort(dropped)

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return bool(self._unfinished_ids)

    @property
    def wake_fd(self) -> int | None:
        """Readable when a step is done, or when vLLM has died."""
        return self._wake_fd

    def advance(self) -> StreamReport:
        """Return what vLLM's steps have brought since the last call, without waiting.

        Raises:
            EngineCrashedError: vLLM's processes have ended.
        """
        self._clear_wake_up()
        reports = []
        while self._reports:
            reports.append(self._reports.popleft())
        if self._death is not None:
            # What came before it is told first.
            self._wake()
            if not reports:
                raise self._death
        return self._merge(reports)

    def stop(self) -> None:
        """End vLLM's processes and forget everything."""
        if self._llm is not None:
            self._llm.stop()
        for descriptor in (self._wake_fd, self._waking_fd):
            if descriptor is not None:
                os.close(descriptor)
        if self._leftovers is not None:
            self._leftovers.remove()
        self._llm = self._facts = self._death = self._wake_fd = self._waking_fd = None
        self._leftovers = None
        self._unfinished_ids.clear()
        self._reports.clear()

    def _launch(self, spec: EngineSpec, folder: str) -> Any:
        """Start vLLM; return its VllmConfig as the running engine has completed it."""
        from mm_orch.optimization.engines.vllm import arguments
        from mm_orch.optimization.engines.vllm.environment import (
            prepare_environment,
            temporary_files_in,
        )
        from mm_orch.optimization.engines.vllm.stderr_tap import StderrTap

        prepare_environment(spec, folder)
        from mm_orch.optimization.engines.vllm.background import BackgroundLLM

        configuration = arguments.make_configuration(spec)
        self._wake_fd, self._waking_fd = os.pipe()
        for descriptor in (self._wake_fd, self._waking_fd):
            os.set_blocking(descriptor, False)
        self._llm = BackgroundLLM(
            configuration,
            grammars=GrammarCompiler(Path(spec.directory), spec.eos_token_ids),
            report=self._take_report,
            lose=self._take_death,
        )
        stderr = StderrTap()
        try:
            with stderr, temporary_files_in(folder):
                self._llm.start()
        except (RuntimeError, ValueError, OSError, ImportError) as error:
            raise EngineStartError(
                f"vLLM could not load {spec.model}: {stderr.find_cause() or error}",
                remedy="The lines of vLLM in the log say more.",
            ) from error
        return configuration

    def _take_report(self, report: StreamReport) -> None:
        self._reports.append(report)
        self._wake()

    def _take_death(self, error: EngineError) -> None:
        self._death = error
        self._wake()

    def _wake(self) -> None:
        if self._waking_fd is not None:
            try:
                os.write(self._waking_fd, b"\0")
            except BlockingIOError:
                logger.debug("the pipe is full, so it is readable already")

    def _clear_wake_up(self) -> None:
        if self._wake_fd is not None:
            try:
                os.read(self._wake_fd, _MANY_WAKE_UPS)
            except BlockingIOError:
                logger.debug("asked without having been woken")

    def _merge(self, reports: list[StreamReport]) -> StreamReport:
        """Join the reports of several steps, less what concerns aborted sequences."""
        merged = StreamReport()
        for report in reports:
            wanted = self._unfinished_ids
            chunks = [chunk for chunk in report.chunks if chunk.sequence_id in wanted]
            failed = [(one, error) for one, error in report.failed if one in wanted]
            merged.chunks.extend(chunks)
            merged.failed.extend(failed)
            merged.started.extend(one for one in report.started if one.sequence_id in wanted)
            wanted.difference_update(chunk.sequence_id for chunk in chunks if chunk.finish_reason)
            wanted.difference_update(sequence_id for sequence_id, _ in failed)
        return StreamReport(
            chunks=merged.chunks,
            started=merged.started,
            failed=merged.failed,
            batch_size=len({chunk.sequence_id for chunk in merged.chunks}),
            duration_s=sum(report.duration_s for report in reports),
            num_running=reports[-1].num_running if reports else 0,
            num_waiting=reports[-1].num_waiting if reports else 0,
            kv_use_ratio=reports[-1].kv_use_ratio if reports else None,
        )


def _find_facts(name: str, configuration: Any) -> EngineFacts:
    from mm_orch.optimization.engines.vllm import arguments

    cache, num_processes = configuration.cache_config, configuration.parallel_config.world_size
    return EngineFacts(
        engine=name,
        dtype=arguments.name_dtype(configuration),
        device=configuration.device_config.device_type,
        context_length=configuration.model_config.max_model_len,
        kv_block_tokens=cache.block_size,
        kv_block_bytes=arguments.find_block_bytes(configuration) * num_processes,
        num_kv_blocks=cache.num_gpu_blocks or 0,
        # vLLM counts penalties and draws from where the text that it was given ends.
        resumes_exactly=False,
        guides="none" if configuration.model_config.skip_tokenizer_init else "all",
    )
