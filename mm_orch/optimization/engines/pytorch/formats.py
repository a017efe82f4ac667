"""Which number format a model's weights get: what was asked for, or the fastest, measured once.

``auto`` tries every format that changes the answers by no more than rounding to bf16 does, times
the model's own products in each, and keeps the outcome in a file beside the compiled kernels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mm_orch.core.errors import EngineStartError
from mm_orch.core.memory import read_memory
from mm_orch.core.whole_files import write_whole
from mm_orch.optimization.engines.pytorch.device import read_cpu_flags
from mm_orch.optimization.engines.pytorch.linear import make_linear
from mm_orch.optimization.engines.pytorch.native.linear import NativeLinear, can_multiply
from mm_orch.optimization.engines.pytorch.native.quantized import (
    Quantization,
    QuantizedLinear,
    can_quantize,
    measure_loss,
)

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

_FILE_NAME = "number-formats.json"
# What bf16 changes a weight by at most.
_LOSSLESS = 2.0**-9
# Sequences in a step, from alone to a full batch.
_NUM_ROWS = (1, 2, 4, 8, 16, 32)
_ROUNDS = 5
# More than processors' caches hold: a step meets each weight once.
_MEASURED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """Number format of a model.

    Attributes:
        name: fp32, bf16, fp16, int8, int4, or int8+bf16, int4+bf16 for two copies.
        dtype: of activations, keys and values, and of the weights unless quantised.
        quantization: of the weights, or None.
    """

    name: str
    dtype: torch.dtype
    quantization: Quantization | None = None


FORMATS = {
    "fp32": WeightFormat("fp32", torch.float32),
    "bf16": WeightFormat("bf16", torch.bfloat16),
    "fp16": WeightFormat("fp16", torch.float16),
    "int8": WeightFormat("int8", torch.bfloat16, Quantization(8)),
    "int4": WeightFormat("int4", torch.bfloat16, Quantization(4)),
}


def check_quantization(
    name: str, weight_format: WeightFormat, model: Any, library: ctypes.CDLL | None
) -> None:
    """Refuse quantised weights where they cannot be computed.

    Args:
        name: the model's.
        weight_format: a quantised one.
        model: with the weights of its file.
        library: the compiled kernels, or None where they do not serve this model.

    Raises:
        EngineStartError: with the reason and the way out.
    """
    if library is None or not can_quantize(library, 32):
        reason = (
            "which needs a CPU with AVX512_BF16, a C++ compiler, and attention heads of a usual"
            " size"
        )
    elif not any(can_quantize(library, one.in_features) for one in _linear_layers(model)):
        reason = "but it has no linear layers with inputs in multiples of 32"
    else:
        return
    raise EngineStartError(
        f"{name} is to be run with {weight_format.name} weights, {reason}.",
        remedy=f"Set optimization.pytorch.dtype and models.{name}.dtype to auto, and"
        f" models.{name}.quantization to null.",
    )


class FormatChooser:
    """Measures and remembers.

    Args:
        library: the compiled kernels, or None.
        directory: where the outcome is kept.
        has_fast_bf16: whether the processor multiplies bf16.
    """

    def __init__(
        self, library: ctypes.CDLL | None, directory: Path, *, has_fast_bf16: bool
    ) -> None:
        self._library = library
        self._path = directory / _FILE_NAME
        self._has_fast_bf16 = has_fast_bf16

    def choose(self, model: Any) -> WeightFormat:
        """Return the fastest format for this model on this machine's CPU.

        Args:
            model: with the weights of its file, not rounded yet.
        """
        layers = list(_linear_layers(model))
        candidates = self._find_candidates(layers)
        if len(candidates) == 1 or not layers:
            return candidates[-1]
        key = self._make_key(candidates, layers)
        names = [one.name for one in candidates]
        known = self._read().get(key)
        if known is None or known["choice"] not in names:
            times_s = {one.name: self._measure(one, layers) for one in candidates}
            shown = {one: [round(t * 1e3, 3) for t in times] for one, times in times_s.items()}
            known = {**_decide(times_s), "rows": _NUM_ROWS, "milliseconds": shown}
            self._remember(key, known)
            logger.info("measured once, for %s rows: %s", _NUM_ROWS, known)
        name, max_rows = known["choice"], known["max_rows"]
        chosen = candidates[names.index(name)]
        if max_rows is None or chosen.quantization is None:
            return chosen
        num_weights = sum(parameter.numel() for parameter in model.parameters())
        if 2 * num_weights > read_memory().total_bytes // 4:
            logger.info("no memory for a second copy of the weights: %s alone", name)
            return chosen
        quantization = replace(chosen.quantization, max_rows=max_rows)
        return WeightFormat(f"{name}+bf16", chosen.dtype, quantization)

    def _find_candidates(self, layers: list[nn.Linear]) -> list[WeightFormat]:
        """Return the formats that change the answers by no more than bf16 does."""
        if not self._has_fast_bf16:
            return [FORMATS["fp32"]]
        candidates = [FORMATS["fp32"], FORMATS["bf16"]]
        library = self._library
        if library is None or not layers:
            return candidates
        # Who was quantised before was so from the first layer to the last; layers in between that
        # were not stay in bf16.
        samples = [layers[0], layers[len(layers) // 2]]
        for name, num_bits in (("int4", 4), ("int8", 8)):
            if all(
                can_quantize(library, one.in_features)
                and measure_loss(library, one.weight.detach(), num_bits) <= _LOSSLESS
                for one in samples
            ):
                quantization = Quantization(num_bits, max_loss=_LOSSLESS)
                return [*candidates, WeightFormat(name, torch.bfloat16, quantization)]
        return candidates

    def _measure(self, weight_format: WeightFormat, layers: list[nn.Linear]) -> list[float]:
        """Return the seconds of passing through these layers, for each number of rows."""
        made: list[tuple[nn.Module, int]] = []
        num_bytes = 0
        for layer in layers:
            made.append((self._make(weight_format, layer.weight.detach()), layer.in_features))
            num_bytes += 2 * layer.weight.numel()
            if num_bytes >= _MEASURED_BYTES:
                break
        times_s = []
        for num_rows in _NUM_ROWS:
            inputs = {
                size: torch.ones(num_rows, size, dtype=weight_format.dtype) for _, size in made
            }
            times_s.append(_time_fastest(lambda: [layer(inputs[size]) for layer, size in made]))  # noqa: B023 - called at once
        return times_s

    def _make(self, weight_format: WeightFormat, weight: torch.Tensor) -> nn.Module:
        if weight_format.quantization is not None and self._library is not None:
            return QuantizedLinear(self._library, weight, None, weight_format.quantization.num_bits)
        weight = weight.to(weight_format.dtype)
        if self._library is not None and can_multiply(self._library, weight):
            return NativeLinear(self._library, weight, None)
        return make_linear(weight, None)

    def _make_key(self, candidates: list[WeightFormat], layers: list[nn.Linear]) -> str:
        # The name of the library's file stands for source and compiler.
        parts = [
            self._library._name if self._library is not None else "",  # noqa: SLF001 - no public one
            sorted(read_cpu_flags()),
            torch.__version__,
            torch.get_num_threads(),
            [one.name for one in candidates],
            [(layer.in_features, layer.out_features) for layer in layers],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._path.read_text())
            return {
                key: one
                for key, one in known.items()
                if one["choice"] in FORMATS and one["max_rows"] in {None, *_NUM_ROWS}
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s cannot be read and is written anew: %s", self._path, error)
            return {}

    def _remember(self, key: str, outcome: dict[str, Any]) -> None:
        try:
            # Read again: another worker may have measured in the meantime.
            content = json.dumps({**self._read(), key: outcome}, indent=1)
            write_whole(self._path, content.encode())
        except OSError as error:
            logger.warning(
                "%s cannot be written, so the next start measures again: %s", self._path, error
            )


def _linear_layers(model: Any) -> Iterator[nn.Linear]:
    """Yield the layers of the body; the output layer is read once a step and has its own rule."""
    head = model.get_output_embeddings()
    for module in model.modules():
        if type(module) is nn.Linear and module is not head:
            yield module


def _decide(times_s: dict[str, list[float]]) -> dict[str, Any]:
    """Return the format that is fastest over all numbers of rows, or that and bf16 for more.

    Returns:
        ``choice``, and ``max_rows``: up to which it is better than bf16 where it is not always.
    """
    totals = {name: sum(map(math.log, times)) for name, times in times_s.items()}
    outcomes: dict[str, tuple[str, int | None]] = {name: (name, None) for name in times_s}
    for name, times in times_s.items():
        if FORMATS[name].quantization is None:
            continue
        is_better = [own < bf16 for own, bf16 in zip(times, times_s["bf16"], strict=True)]
        num_better = is_better.index(False) if False in is_better else len(is_better)
        if 0 < num_better < len(is_better):
            both = f"{name}+bf16"
            mixed = [*times[:num_better], *times_s["bf16"][num_better:]]
            totals[both] = sum(map(math.log, mixed))
            outcomes[both] = (name, _NUM_ROWS[num_better - 1])
    choice, max_rows = outcomes[min(totals, key=totals.__getitem__)]
    return {"choice": choice, "max_rows": max_rows}


def _time_fastest(work: Callable[[], object]) -> float:
    work()
    times_s = []
    for _ in range(_ROUNDS):
        begin_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - begin_s)
    return min(times_s)
