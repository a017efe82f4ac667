"""Runs the graph on steps: holds the memory of keys and values and binds it to the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from mm_orch.optimization.engines.onnx.runs import lay_out, plan_runs
from mm_orch.optimization.engines.onnx.session import find_device_index, find_memory
from mm_orch.optimization.engines.onnx.shape import BLOCK_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence as Batch

    from numpy.typing import NDArray

    from mm_orch.optimization.engines.contract import ScheduledSequence, Sequence
    from mm_orch.optimization.engines.onnx.runs import Run
    from mm_orch.optimization.engines.onnx.shape import DecoderShape


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
        self._memory: list[Any] = []
        num_slots = num_blocks * BLOCK_TOKENS
        for index in range(shape.num_layers):
            for kind in ("keys", "values"):
                memory = _reserve(
                    (num_slots, shape.kv_width), find_memory(session), find_device_index(device)
                )
                # INVARIANT: input and output are one memory, so ScatterND copies nothing but the
                # new slots.
                self._binding.bind_ortvalue_input(f"{kind}.{index}", memory)
                self._binding.bind_ortvalue_output(f"new_{kind}.{index}", memory)
                self._memory.append(memory)

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


def _reserve(shape: tuple[int, int], memory: str, device_index: int) -> Any:
    """Return memory for keys or values: on the CPU zeros, whose pages come as they are used."""
    if memory == "cpu":
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
    return onnxruntime.OrtValue.ortvalue_from_shape_and_type(
        shape, np.float32, memory, device_index
    )
