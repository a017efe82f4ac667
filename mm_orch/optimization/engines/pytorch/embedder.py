"""The embedding backend on PyTorch: transformers' own model, one padded batch at a time."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, ClassVar

from mm_orch.core.errors import EngineError, EngineFailedError, EngineStartError
from mm_orch.optimization.engines.contract import EngineFacts
from mm_orch.optimization.engines.embedding import pad
from mm_orch.optimization.engines.pytorch.backend import PyTorchBackend

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import Availability, EngineSpec
    from mm_orch.optimization.engines.pytorch.encoder import Encoder

logger = logging.getLogger(__name__)

_DTYPES = {"auto": "float32", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class PyTorchEmbedder:
    """Runs any text model that transformers' AutoModel loads, in fp32 unless told otherwise."""

    name: ClassVar[str] = PyTorchBackend.name
    takes_gpus: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._encoder: Encoder | None = None
        self._device: torch.device | None = None
        self._context_length = 0

    @classmethod
    def probe(cls) -> Availability:
        """Look for the libraries without importing them: those of the step backend."""
        return PyTorchBackend.probe()

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the weights, then embed one token, so that what cannot work fails here."""
        if self._facts is not None:
            return self._facts
        if spec.dtype not in _DTYPES:
            raise EngineStartError(
                f"{spec.model}: PyTorch embeds in fp32, bf16 and fp16, not in {spec.dtype}.",
                remedy=f"Set models.{spec.model}.dtype to fp32.",
            )
        import torch

        from mm_orch.optimization.engines.pytorch.device import choose_device
        from mm_orch.optimization.engines.pytorch.encoder import load_encoder

        begin_s = time.monotonic()
        torch.set_num_threads(spec.num_threads)
        self._device = choose_device(spec.device)
        dtype = _DTYPES[spec.dtype]
        self._encoder = load_encoder(spec, getattr(torch, dtype)).to(self._device)
        self._context_length = spec.context_length
        try:
            [vector] = self.embed([[self._encoder.padding_id]])
        except (EngineError, TypeError, ValueError, LookupError) as error:
            architecture = type(self._encoder.model).__name__
            self.stop()
            raise EngineStartError(
                f"{spec.model}: {architecture} cannot embed: {error}",
                remedy="Choose another model.",
            ) from error
        self._facts = EngineFacts(
            engine=self.name,
            dtype=_NAMES[dtype],
            device=str(self._device),
            context_length=spec.context_length,
            dimensions=len(vector),
        )
        logger.info(
            "%s: ready in %.1f s, %d dimensions, %s, %s on %s",
            spec.model,
            time.monotonic() - begin_s,
            len(vector),
            self._encoder.recipe.words,
            self._facts.dtype,
            self._device,
        )
        return self._facts

    def embed(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Run one padded batch.

        Raises:
            EngineOutOfMemoryError: device or host memory ran out.
            EngineFailedError: PyTorch refused the batch.
        """
        import torch

        from mm_orch.optimization.engines.pytorch.faults import translated_faults

        if self._encoder is None:
            raise EngineFailedError("The PyTorch engine has not been started.")
        token_ids, mask = pad(
            batch, padding_id=self._encoder.padding_id, max_width=self._context_length
        )
        with translated_faults(), torch.inference_mode():
            vectors: NDArray[np.float32] = (
                self._encoder(
                    torch.from_numpy(token_ids).to(self._device),
                    torch.from_numpy(mask).to(self._device),
                )
                .cpu()
                .numpy()
            )
        return vectors

    def stop(self) -> None:
        """Drop the model."""
        self._encoder = self._facts = None
