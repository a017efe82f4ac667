"""The step backend on PyTorch: a decoder over packed steps and one KV memory."""

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

    import torch

    from mm_orch.core.generation import TokenChunk
    from mm_orch.optimization.engines.contract import Availability, EngineSpec, ScheduledSequence
    from mm_orch.optimization.engines.pytorch.kv_memory import KVMemory
    from mm_orch.optimization.engines.pytorch.loading import LoadedModel

logger = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "safetensors", "accelerate")


class PyTorchBackend:
    """Runs a causal language model of transformers, several sequences in one forward pass."""

    name: ClassVar[str] = "pytorch"
    takes_gpus: ClassVar[bool] = True

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._model: LoadedModel | None = None
        self._memory: KVMemory | None = None
        self._device: torch.device | None = None
        self._spec: EngineSpec | None = None

    @classmethod
    def probe(cls) -> Availability:
        """Look for the libraries without importing them."""
        return look_for_libraries(cls.name, _LIBRARIES, remedy="pip install '.[pytorch]'")

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the weights, then run one small step, so that what cannot work fails here."""
        if self._facts is not None:
            return self._facts
        import torch

        from mm_orch.optimization.engines.pytorch import device as devices
        from mm_orch.optimization.engines.pytorch.kv_memory import reserve_memory
        from mm_orch.optimization.engines.pytorch.loading import load_model
        from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS

        begin_s = time.monotonic()
        self._spec = spec
        torch.set_num_threads(spec.num_threads)
        self._device = devices.choose_device(spec.device)
        self._model = load_model(spec, self._device)
        shape, dtype = self._model.kv_shape, self._model.format_name
        num_blocks = self.count_kv_blocks(spec.max_kv_bytes)
        self._memory = reserve_memory(shape, num_blocks, self._device, model=spec.model)
        self._warm_up(spec)
        self._facts = EngineFacts(
            engine=self.name,
            dtype=dtype,
            device=str(self._device),
            context_length=spec.context_length,
            kv_block_tokens=BLOCK_TOKENS,
            kv_block_bytes=shape.block_bytes,
            num_kv_blocks=num_blocks,
        )
        logger.info(
            "%s: ready in %.1f s, %s on %s, %d KV blocks of %d tokens",
            spec.model,
            time.monotonic() - begin_s,
            dtype,
            self._device,
            num_blocks,
            BLOCK_TOKENS,
        )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Run all new tokens of the batch as one packed row and sample where a prompt is complete.

        Raises:
            EngineOutOfMemoryError: device or host memory ran out.
            EngineFailedError: PyTorch refused the step.
        """
        from mm_orch.optimization.engines.pytorch.stepping import compute_tokens

        return compute_tokens(batch, self._forward)

    def count_kv_blocks(self, max_kv_bytes: int) -> int:
        """See ResizableBackend; on a CPU at most half of the machine's memory is taken."""
        from mm_orch.optimization.engines.pytorch.device import bound_kv_bytes
        from mm_orch.optimization.engines.pytorch.packed import BLOCK_TOKENS

        if self._model is None or self._spec is None or self._device is None:
            raise _not_started()
        return count_kv_blocks(
            msgspec.structs.replace(
                self._spec, max_kv_bytes=bound_kv_bytes(max_kv_bytes, self._device)
            ),
            block_tokens=BLOCK_TOKENS,
            block_bytes=self._model.kv_shape.block_bytes,
        )

    def move_kv(self, moves: Mapping[int, int]) -> None:
        """See ResizableBackend."""
        if self._memory is None:
            raise _not_started()
        self._memory.move(moves)

    def resize_kv(self, num_blocks: int, *, num_kept: int) -> None:
        """See ResizableBackend."""
        if self._memory is None:
            raise _not_started()
        self._memory.resize(num_blocks, num_kept=num_kept)

    def stop(self) -> None:
        """Drop model and KV memory."""
        self._model = self._memory = self._facts = None

    def _forward(self, batch: Batch[ScheduledSequence]) -> torch.Tensor:
        """Return [number of completed prompts, vocab_size] logits."""
        from mm_orch.optimization.engines.pytorch.packed import pack

        if self._model is None or self._memory is None or self._device is None:
            raise _not_started()
        step = pack(batch, self._device, is_rounded=self._model.compiles_shapes)
        return self._model.decoder(step, self._memory)

    def _warm_up(self, spec: EngineSpec) -> None:
        """Run a few tokens: shows attention that cannot be computed, and layers that have none."""
        import torch

        from mm_orch.optimization.engines.pytorch.generic import GenericDecoder
        from mm_orch.optimization.engines.pytorch.stepping import WARM_UP_TOKENS, make_warm_up

        if self._model is None:
            raise EngineStartError("The PyTorch engine has no model to warm up.")
        # As steps run: what is compiled in another mode would be compiled again.
        with torch.inference_mode():
            if self._model.compiled is not None:
                self._model.compiled.start(spec, self._forward)
            self._forward(make_warm_up(min(WARM_UP_TOKENS, spec.context_length)))
        num_seen, num_layers = (
            len(self._model.attention.layers_seen),
            self._model.kv_shape.num_layers,
        )
        if isinstance(self._model.decoder, GenericDecoder) and num_seen != num_layers:
            raise EngineStartError(
                f"{spec.model}: only {num_seen} of {num_layers} layers use attention that the"
                " PyTorch engine can batch.",
                remedy="Choose a model whose layers are all attention layers.",
            )


def _not_started() -> EngineFailedError:
    return EngineFailedError("The PyTorch engine has not been started.")
