"""The embedding backend on ONNX Runtime: a graph exported once, one padded batch at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, ClassVar

from mm_orch.core.errors import EngineFailedError, EngineStartError
from mm_orch.optimization.engines.contract import EngineFacts
from mm_orch.optimization.engines.embedding import pad
from mm_orch.optimization.engines.onnx.encoder_graph import EncoderRecord
from mm_orch.optimization.engines.onnx.export_cache import GraphCache
from mm_orch.optimization.engines.probing import look_for_libraries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import Availability, EngineSpec

logger = logging.getLogger(__name__)

# Those beside onnxruntime make the graph.
_LIBRARIES = ("onnxruntime", "onnx", "onnxscript", "torch", "transformers", "safetensors")
_DTYPES = {"auto": "fp32", "fp32": "fp32", "int8": "int8"}


class OnnxEmbedder:
    """Runs text models in fp32, or with int8 weights where that is asked for."""

    name: ClassVar[str] = "onnx"
    takes_gpus: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._session: onnxruntime.InferenceSession | None = None
        self._padding_id = 0

    @classmethod
    def probe(cls) -> Availability:
        """Look for the libraries without importing them."""
        return look_for_libraries(cls.name, _LIBRARIES, remedy="pip install '.[onnx]'")

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Export the model where that has not been done, and open the graph."""
        if self._facts is not None:
            return self._facts
        if spec.dtype not in _DTYPES:
            raise EngineStartError(
                f"{spec.model}: ONNX Runtime embeds in fp32 and int8 here, not in {spec.dtype}.",
                remedy=f"Set models.{spec.model}.dtype to fp32 or int8.",
            )
        from mm_orch.optimization.engines.onnx.session import (
            choose_providers,
            name_device,
            open_session,
        )

        begin_s = time.monotonic()
        dtype = _DTYPES[spec.dtype]
        providers = choose_providers(spec)
        stored = GraphCache(spec, dtype, EncoderRecord).ensure(
            lambda folder: _export(spec, dtype, folder)
        )
        known = stored.record
        self._session = open_session(spec, stored.graph, providers)
        self._padding_id = known.padding_id
        self._facts = EngineFacts(
            engine=self.name,
            dtype=dtype,
            device=name_device(self._session, spec.device),
            context_length=spec.context_length,
            dimensions=known.dimensions,
        )
        logger.info(
            "%s: ready in %.1f s, %d dimensions, %s, %s on %s; beside PyTorch in fp32 the cosine is"
            " %.5f or more and components differ by %.1g or less (%d texts)",
            spec.model,
            time.monotonic() - begin_s,
            known.dimensions,
            known.recipe,
            dtype,
            self._facts.device,
            known.min_cosine,
            known.max_abs_error,
            known.num_texts,
        )
        return self._facts

    def embed(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Run one padded batch.

        Raises:
            EngineOutOfMemoryError: device or host memory ran out.
            EngineFailedError: ONNX Runtime refused the batch.
        """
        from mm_orch.optimization.engines.onnx.faults import translated_faults

        if self._session is None or self._facts is None:
            raise EngineFailedError("The ONNX engine has not been started.")
        token_ids, mask = pad(
            batch, padding_id=self._padding_id, max_width=self._facts.context_length
        )
        vectors: NDArray[np.float32]
        with translated_faults():
            [vectors] = self._session.run(None, {"input_ids": token_ids, "attention_mask": mask})
        return vectors

    def stop(self) -> None:
        """Drop the graph."""
        self._session = self._facts = None


def _export(spec: EngineSpec, dtype: str, folder: Path) -> EncoderRecord:
    # Only this needs PyTorch.
    from mm_orch.optimization.engines.onnx.encoder_export import export_encoder

    return export_encoder(spec, dtype, folder)
