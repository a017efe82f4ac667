"""The step backend on ONNX Runtime: an exported decoder over one memory of keys and values."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, ClassVar

import msgspec

from mm_orch.core.errors import EngineFailedError, EngineStartError
from mm_orch.optimization.engines.contract import EngineFacts, count_kv_blocks
from mm_orch.optimization.engines.probing import look_for_libraries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Batch
    from pathlib import Path

    from mm_orch.core.generation import TokenChunk
    from mm_orch.optimization.engines.contract import Availability, EngineSpec, ScheduledSequence
    from mm_orch.optimization.engines.onnx.export_cache import ExportRecord
    from mm_orch.optimization.engines.onnx.formats import WeightFormat
    from mm_orch.optimization.engines.onnx.runner import DecoderRunner

logger = logging.getLogger(__name__)

# torch draws the tokens; transformers and onnx are needed for the first export alone.
_LIBRARIES = ("onnxruntime", "onnx", "torch", "transformers", "safetensors")


class OnnxBackend:
    """Runs a model of the Llama family that it has exported to ONNX."""

    name: ClassVar[str] = "onnx"
    takes_gpus: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._runner: DecoderRunner | None = None
        # What memory is counted by: the spec, where it lies, and the bytes of a block.
        self._counting: tuple[EngineSpec, str, int] | None = None

    @classmethod
    def probe(cls) -> Availability:
        """Look for the libraries without importing them."""
        return look_for_libraries(cls.name, _LIBRARIES, remedy="pip install '.[onnx]'")

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the export, making it first where there is none.

        Raises:
            EngineStartError: the model, the number format or the machine does not allow it.
        """
        if self._facts is not None:
            return self._facts
        from mm_orch.optimization.engines.onnx.formats import choose_format
        from mm_orch.optimization.engines.onnx.shape import check_model_type

        begin_s = time.monotonic()
        weight_format = choose_format(spec.model, spec.dtype)
        check_model_type(spec.model, spec.directory)
        self._facts = self._load(spec, weight_format)
        logger.info(
            "%s: ready in %.1f s, %s on %s, %d KV blocks of %d tokens",
            spec.model,
            time.monotonic() - begin_s,
            weight_format.description,
            self._facts.device,
            self._facts.num_kv_blocks,
            self._facts.kv_block_tokens,
        )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Run the batch's new tokens through the graph and sample where a prompt is complete.

        Raises:
            EngineOutOfMemoryError: device or host memory ran out.
            EngineFailedError: ONNX Runtime refused the step.
        """
        runner = self._require_runner()
        import torch

        from mm_orch.optimization.engines.onnx.faults import translated_faults
        from mm_orch.optimization.engines.sampling import sample

        with translated_faults(), torch.inference_mode():
            logits, sequences = runner.compute(batch)
            return sample(torch.from_numpy(logits), sequences) if sequences else []

    def count_kv_blocks(self, max_kv_bytes: int) -> int:
        """See ResizableBackend; on a CPU at most half of the machine's memory is taken."""
        import torch

        from mm_orch.optimization.engines.onnx.shape import BLOCK_TOKENS
        from mm_orch.optimization.engines.pytorch.device import bound_kv_bytes

        if self._counting is None:
            raise _not_started()
        spec, device, block_bytes = self._counting
        return count_kv_blocks(
            msgspec.structs.replace(
                spec, max_kv_bytes=bound_kv_bytes(max_kv_bytes, torch.device(device))
            ),
            block_tokens=BLOCK_TOKENS,
            block_bytes=block_bytes,
        )

    def move_kv(self, moves: Mapping[int, int]) -> None:
        """See ResizableBackend."""
        self._require_runner().move(moves)

    def resize_kv(self, num_blocks: int, *, num_kept: int) -> None:
        """See ResizableBackend; on a GPU the memory stays as large as it was."""
        from mm_orch.optimization.engines.onnx.faults import translated_faults

        with translated_faults():
            self._require_runner().resize(num_blocks, num_kept=num_kept)

    def stop(self) -> None:
        """Drop session and KV memory."""
        self._runner = self._facts = None

    def _require_runner(self) -> DecoderRunner:
        if self._runner is None:
            raise _not_started()
        return self._runner

    def _load(self, spec: EngineSpec, weight_format: WeightFormat) -> EngineFacts:
        import torch

        from mm_orch.optimization.engines.onnx.export_cache import ExportCache
        from mm_orch.optimization.engines.onnx.runner import DecoderRunner
        from mm_orch.optimization.engines.onnx.session import (
            choose_providers,
            name_device,
            open_session,
        )
        from mm_orch.optimization.engines.onnx.shape import BLOCK_TOKENS

        torch.set_num_threads(spec.num_threads)
        providers = choose_providers(spec)

        def export(draft: Path) -> ExportRecord:
            # It alone needs transformers, and seconds to import it.
            from mm_orch.optimization.engines.onnx.export import export_model

            return export_model(spec, weight_format, providers, draft)

        stored = ExportCache(spec, weight_format.name).ensure(export)
        shape = stored.record.shape
        if spec.context_length > stored.record.num_positions:
            raise EngineStartError(
                f"models.{spec.model}.context_length is {spec.context_length}, but the model has"
                f" positions for {stored.record.num_positions} tokens."
            )
        session = open_session(spec, stored.graph, providers)
        device = name_device(session, spec.device)
        self._counting = spec, device, shape.block_bytes
        num_blocks = self.count_kv_blocks(spec.max_kv_bytes)
        try:
            self._runner = DecoderRunner(session, shape, num_blocks=num_blocks, device=spec.device)
        except MemoryError as error:
            raise EngineStartError(
                f"{spec.model}: no memory for {num_blocks * shape.block_bytes >> 20} MiB of keys"
                f" and values: {error}",
                remedy="Lower optimization.cache.max_memory_mb.",
            ) from error
        return EngineFacts(
            engine=self.name,
            dtype=weight_format.name,
            device=device,
            context_length=spec.context_length,
            kv_block_tokens=BLOCK_TOKENS,
            kv_block_bytes=shape.block_bytes,
            num_kv_blocks=num_blocks,
        )


def _not_started() -> EngineFailedError:
    return EngineFailedError("The ONNX Runtime engine has not been started.")
