"""The step backend on PyTorch: transformers' own model code over packed attention."""

from __future__ import annotations

import importlib.util
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

from mm_orch.core.errors import EngineFailedError, EngineOutOfMemoryError, EngineStartError
from mm_orch.optimization.engines.contract import Availability, EngineFacts, EngineStats

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence as Batch

    import torch

    from mm_orch.core.generation import TokenChunk
    from mm_orch.optimization.engines.contract import EngineSpec, ScheduledSequence
    from mm_orch.optimization.engines.pytorch.attention import PackedAttention, SequenceKV

logger = logging.getLogger(__name__)

_LIBRARIES = ("torch", "transformers", "safetensors", "accelerate")
_WARM_UP_TOKENS = 4


class PyTorchBackend:
    """Runs a causal language model of transformers, several sequences in one forward pass."""

    name: ClassVar[str] = "pytorch"

    def __init__(self) -> None:
        self._facts: EngineFacts | None = None
        self._model: Any = None
        self._attention: PackedAttention | None = None
        self._kv_by_sequence_id: dict[str, SequenceKV] = {}

    @classmethod
    def probe(cls) -> Availability:
        """Look for the libraries without importing them."""
        missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            return Availability(
                engine=cls.name,
                is_available=False,
                reason=f"not installed: {', '.join(missing)}",
                remedy="pip install '.[pytorch]'",
            )
        return Availability(engine=cls.name, is_available=True)

    def start(self, spec: EngineSpec) -> EngineFacts:
        """Load the weights, then run one small step, so that what cannot work fails here."""
        if self._facts is not None:
            return self._facts
        import torch

        from mm_orch.optimization.engines.pytorch import device as devices
        from mm_orch.optimization.engines.pytorch import loading

        begin = time.monotonic()
        torch.set_num_threads(spec.num_threads)
        device = devices.choose_device(spec.device)
        dtype = devices.choose_dtype(spec.dtype, device)
        self._model, self._attention = loading.load_model(
            spec, device=device, dtype=devices.DTYPES[dtype]
        )
        self._warm_up(spec)
        self._facts = EngineFacts(
            engine=self.name, dtype=dtype, device=str(device), context_length=spec.context_length
        )
        logger.info(
            "%s: loaded in %.1f s, %s on %s", spec.model, time.monotonic() - begin, dtype, device
        )
        return self._facts

    def step(self, batch: Batch[ScheduledSequence]) -> list[TokenChunk]:
        """Run all new tokens of the batch as one packed row and sample where a prompt is complete.

        Raises:
            EngineOutOfMemoryError: device or host memory ran out.
            EngineFailedError: PyTorch refused the step.
        """
        import torch

        from mm_orch.optimization.engines.sampling import sample

        try:
            with torch.inference_mode():
                logits = self._forward(batch)
                finished = [scheduled.sequence for scheduled in batch if scheduled.completes_prompt]
                return sample(logits, finished) if finished else []
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise EngineOutOfMemoryError(f"PyTorch ran out of memory: {error}.") from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise EngineOutOfMemoryError(f"PyTorch ran out of memory: {error}.") from error
            raise EngineFailedError(f"PyTorch failed in a step: {error}.") from error

    def release(self, sequence_ids: Iterable[str]) -> None:
        """Free the sequences' KV memory."""
        for sequence_id in sequence_ids:
            self._kv_by_sequence_id.pop(sequence_id, None)

    def stats(self) -> EngineStats:
        """Sequences with KV memory, and its bytes as allocated."""
        held = self._kv_by_sequence_id.values()
        return EngineStats(num_sequences=len(held), kv_bytes=sum(kv.num_bytes for kv in held))

    def stop(self) -> None:
        """Drop model and KV memory."""
        self._kv_by_sequence_id.clear()
        self._model = self._attention = self._facts = None

    def _forward(self, batch: Batch[ScheduledSequence]) -> torch.Tensor:
        """Return [number of completed prompts, vocab_size] logits in float32."""
        packed = [(s.sequence.token_ids, s.sequence.num_computed_tokens) for s in batch]
        kvs = [self._ensure_kv(scheduled.sequence.sequence_id) for scheduled in batch]
        rows: list[int] = []
        positions: list[int] = []
        token_ids: list[int] = []
        for scheduled, (tokens, start) in zip(batch, packed, strict=True):
            end = start + scheduled.num_new_tokens
            token_ids += tokens[start:end]
            positions += range(start, end)
            if scheduled.completes_prompt:
                rows.append(len(token_ids) - 1)
        segments = list(zip(kvs, (s.num_new_tokens for s in batch), strict=True))
        return self._run_packed(token_ids, positions, segments, rows)

    def _run_packed(
        self,
        token_ids: list[int],
        positions: list[int],
        segments: list[tuple[SequenceKV, int]],
        rows: list[int],
    ) -> torch.Tensor:
        import torch

        from mm_orch.optimization.engines.pytorch.attention import PackedSegment
        from mm_orch.optimization.engines.pytorch.shapes import round_up_rows

        if self._attention is None:
            raise EngineFailedError("The PyTorch engine has not been started.")
        device = self._model.device
        self._attention.segments = [PackedSegment(kv, count) for kv, count in segments]
        padding = [0] * (round_up_rows(len(token_ids)) - len(token_ids))
        output = self._model(
            input_ids=torch.tensor([token_ids + padding], device=device),
            position_ids=torch.tensor([positions + padding], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(rows, dtype=torch.long, device=device),
        )
        for kv, count in segments:
            kv.advance(count)
        logits: torch.Tensor = output.logits[0].float()
        return logits

    def _ensure_kv(self, sequence_id: str) -> SequenceKV:
        from mm_orch.optimization.engines.pytorch.attention import SequenceKV

        if sequence_id not in self._kv_by_sequence_id:
            num_layers = self._model.config.get_text_config().num_hidden_layers
            self._kv_by_sequence_id[sequence_id] = SequenceKV(num_layers)
        return self._kv_by_sequence_id[sequence_id]

    def _warm_up(self, spec: EngineSpec) -> None:
        """Run a few tokens: shows attention that cannot be computed, and layers that have none."""
        import torch

        if self._attention is None:
            raise EngineStartError("The PyTorch engine has no model to warm up.")
        num_tokens = min(_WARM_UP_TOKENS, spec.context_length)
        kv = self._ensure_kv("warm-up")
        try:
            with torch.inference_mode():
                self._run_packed([0] * num_tokens, list(range(num_tokens)), [(kv, num_tokens)], [0])
        finally:
            self.release(["warm-up"])
        num_layers = self._model.config.get_text_config().num_hidden_layers
        if self._attention.num_layers_seen != num_layers:
            raise EngineStartError(
                f"{spec.model}: only {self._attention.num_layers_seen} of {num_layers} layers use"
                " attention that the PyTorch engine can batch.",
                remedy="Choose a model whose layers are all attention layers.",
            )
