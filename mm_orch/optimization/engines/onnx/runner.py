"""Runs the graph on steps: holds the memory of keys and values and binds it to the session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from mm_orch.core.errors import EngineOutOfMemoryError
from mm_orch.optimization.engines.onnx.runs import lay_out, plan_runs
from mm_orch.optimization.engines.onnx.session import find_device_index, find_memory
from mm_orch.optimization.engines.onnx.shape import BLOCK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence as Batch

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
    from mm_orch.optimization.engines.onnx.runs import Run
    from mm_orch.optimization.engines.onnx.shape import DecoderShape


@dataclass(frozen=True, slots=True)
class KVTensor:
    """Keys or values of a layer: what is bound to the session, and on the CPU the same as array."""

    bound: Any
    array: NDArray[np.float32] | None = None

    def as_array(self) -> NDArray[np.float32]:
        """Return the array; raises EngineOutOfMemoryError on a GPU."""
        if self.array is None:
            raise EngineOutOfMemoryError(
                "ONNX Runtime's keys and values stay as large on a GPU as they were at its start."
            )
        return self.array


class DecoderRunner:
    """A session with its memory of keys and values.

    Args:
        session: an onnxruntime.InferenceSession on an exported decoder.
        shape: of that decoder.
        num_blocks: blocks of keys and values to set aside.
        device: system.device, for the number of a GPU.

    Raises:
        MemoryError: there is no room for the blocks.
    """

    def __init__(
        self, session: Any, shape: DecoderShape, *, num_blocks: int, device: str = "cpu"
    ) -> None:
        self._session = session
        self._shape = shape
        self._binding = session.io_binding()
        self._device = device
        self._memory: dict[str, KVTensor] = {}
        for index in range(shape.num_layers):
            for kind in ("keys", "values"):
                self._bind(f"{kind}.{index}", self._reserve(num_blocks))

    def move(self, moves: Mapping[int, int]) -> None:
        """Copy blocks to where others are; no block is both."""
        for memory in self._memory.values():
            blocks = memory.as_array().reshape(-1, BLOCK_TOKENS, self._shape.kv_width)
            blocks[list(moves.values())] = blocks[list(moves)]

    def resize(self, num_blocks: int, *, num_kept: int) -> None:
        """Give each layer this many blocks, of which the first ``num_kept`` stay as they are.

        Raises:
            MemoryError: there is no room; some layers may have theirs already, none has less than
                the least of before and after.
            EngineOutOfMemoryError: the memory is a GPU's, which is not copied here.
        """
        num_slots = min(num_blocks, num_kept) * BLOCK_TOKENS
        for name, old in self._memory.items():
            kept = old.as_array()[:num_slots]
            new = self._reserve(num_blocks)
            new.as_array()[:num_slots] = kept
            self._bind(name, new)

    def _reserve(self, num_blocks: int) -> KVTensor:
        return _reserve(
            (num_blocks * BLOCK_TOKENS, self._shape.kv_width),
            find_memory(self._session),
            find_device_index(self._device),
        )

    def _bind(self, name: str, memory: KVTensor) -> None:
        # INVARIANT: input and output are one memory, so ScatterND copies nothing but the new slots.
        self._binding.bind_ortvalue_input(name, memory.bound)
        self._binding.bind_ortvalue_output(f"new_{name}", memory.bound)
        self._memory[name] = memory

    def compute(
        self, batch: Batch[ScheduledSequence]
    ) -> tuple[NDArray[np.float32], list[Sequence]]:
        """Compute the batch's new tokens and fill their slots.

        Returns:
            logits [number of completed prompts, vocab_size], and whose they are, row by row.
        """
        runs = plan_runs(batch)
        sequences = [sequence for run in runs for sequence in run.wanted]
        logits = np.empty((len(sequences), self._shape.vocab_size), np.float32)
        first = 0
        for run in runs:
            last = first + len(run.wanted)
            self._compute_run(run, logits[first:last])
            first = last
        return logits, sequences

    def _compute_run(self, run: Run, logits: NDArray[np.float32]) -> None:
        inputs = lay_out(run, self._shape.window)
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        self._binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(self._binding)


def _reserve(shape: tuple[int, int], memory: str, device_index: int) -> KVTensor:
    """Return memory for keys or values: on the CPU zeros, whose pages come as they are used."""
    if memory == "cpu":
        array = np.zeros(shape, np.float32)
        return KVTensor(onnxruntime.OrtValue.ortvalue_from_numpy(array), array)
    return KVTensor(
        onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, memory, device_index)
    )
