"""What torch.compile makes faster: compiled while the engine starts, or done without.

Of the Llama family on torch's operations, norm, activation and rotation become a loop each. Of any
other model, all layers become one graph. (One a layer starts sooner, but in a rough measurement was
hardly faster than none.)

    norm --> multiply --> rotate, ... --> attend --> multiply --> ...

in which our products and our attention are operators that the compiler does not look into. It
could not: products are C++ or lie in layouts that it does not know, and attention reads a step that
is another each time.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch

from mm_orch.optimization.engines.contract import ScheduledSequence
from mm_orch.optimization.engines.pytorch.generic import set_attention
from mm_orch.optimization.engines.pytorch.linear import PackedLinear
from mm_orch.optimization.engines.pytorch.native.linear import KernelLinear
from mm_orch.optimization.engines.pytorch.native.quantized import TwofoldLinear
from mm_orch.optimization.engines.pytorch.stepping import make_warm_up
from mm_orch.optimization.engines.pytorch.torch_kernels import RowFunctions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Sequence as Batch

    from mm_orch.optimization.engines.contract import EngineSpec
    from mm_orch.optimization.engines.pytorch.generic import PackedAttention
    from mm_orch.optimization.engines.pytorch.torch_kernels import TorchKernels

logger = logging.getLogger(__name__)

# All errors of torch.compile itself are RuntimeErrors. The others are files that cannot be written,
# libraries that cannot be loaded, and what compiled code says to inputs that it was not made for.
_FAILURES = (RuntimeError, OSError, ImportError, AssertionError)


class Compiled(ABC):
    """A part of a model that can be compiled."""

    @abstractmethod
    def replace(self) -> None:
        """Put what compiles itself when it is first called in the part's place."""

    @abstractmethod
    def undo(self) -> None:
        """Compute without the compiler from now on."""

    def start(self, spec: EngineSpec, run: Callable[[Batch[ScheduledSequence]], object]) -> None:
        """Have all compiled that steps will need; where that fails, undo it and say so.

        Args:
            spec: names the directory where what was compiled is kept.
            run: computes a step.
        """
        begin_s = time.monotonic()
        # The compiler asks nobody but the environment, with each graph.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(spec.cache_directory) / "inductor")
        try:
            self.replace()
            for step in _make_steps(spec.context_length):
                run(step)
        except _FAILURES as error:
            self.undo()
            logger.warning(
                "%s: runs uncompiled, as torch.compile failed: %s. It needs a C++ compiler (g++) on"
                " CPUs, Triton on GPUs, and cannot compile every model; with"
                " optimization.pytorch.compile: false it is not tried.",
                spec.model,
                _first_line(error),
            )
        else:
            logger.info("%s: compiled in %.1f s", spec.model, time.monotonic() - begin_s)


class CompiledRows(Compiled):
    """What kernels of torch compute row by row."""

    def __init__(self, kernels: TorchKernels) -> None:
        self._kernels = kernels

    def replace(self) -> None:
        """See Compiled."""
        plain = self._kernels.rows
        self._kernels.rows = RowFunctions(
            torch.compile(plain.add_rms_norm),
            torch.compile(plain.silu_mul),
            torch.compile(plain.rotate_heads),
        )

    def undo(self) -> None:
        """See Compiled."""
        self._kernels.rows = RowFunctions()


class CompiledBody(Compiled):
    """All of a model of transformers but the layer that makes logits.

    Args:
        model: a causal language model whose weights are laid out.
        attention: what its layers call.
    """

    def __init__(self, model: Any, attention: PackedAttention) -> None:
        self._body: torch.nn.Module = model.base_model
        self._attention = attention

    def replace(self) -> None:
        """See Compiled."""
        own_name = self._attention.name
        _parts[own_name] = self._attention
        set_attention(own_name, partial(torch.ops.muai.attend, own_name))
        for name, module in list(self._body.named_modules()):
            if isinstance(module, (KernelLinear, TwofoldLinear, PackedLinear)):
                self._body.set_submodule(name, _ProductCall(module, f"{own_name}.{name}"))
        self._body.forward = torch.compile(self._body.forward, dynamic=True)

    def undo(self) -> None:
        """See Compiled."""
        # What is left is the method of the class.
        vars(self._body).pop("forward", None)
        for name, module in list(self._body.named_modules()):
            if isinstance(module, _ProductCall):
                self._body.set_submodule(name, module.product)
        set_attention(self._attention.name, self._attention.attend)


class _ProductCall(torch.nn.Module):
    def __init__(self, product: KernelLinear | TwofoldLinear | PackedLinear, name: str) -> None:
        super().__init__()
        self.product = product
        self._name = name
        self._num_outputs = product.num_outputs
        _parts[name] = product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the operator."""
        product: torch.Tensor = torch.ops.muai.multiply(x, self._name, self._num_outputs)
        return product


# What operators work on besides tensors, by names: a graph can hold those.
_parts: WeakValueDictionary[str, Any] = WeakValueDictionary()

torch.library.define("muai::multiply", "(Tensor x, str product, int num_outputs) -> Tensor")
torch.library.define(
    "muai::attend",
    "(str attention, Tensor query, Tensor key, Tensor value, int layer_index, float? scaling,"
    " int? window) -> Tensor",
)


@torch.library.impl("muai::multiply", "default")
def _multiply(x: torch.Tensor, product: str, num_outputs: int) -> torch.Tensor:
    del num_outputs
    out: torch.Tensor = _parts[product].forward(x)
    return out


@torch.library.register_fake("muai::multiply")  # type: ignore[untyped-decorator]
def _shape_product(x: torch.Tensor, product: str, num_outputs: int) -> torch.Tensor:
    del product
    return x.new_empty((*x.shape[:-1], num_outputs))


@torch.library.impl("muai::attend", "default")
def _attend(attention: str, *arguments: Any) -> torch.Tensor:
    out: torch.Tensor = _parts[attention].attend(*arguments)
    return out


@torch.library.register_fake("muai::attend")  # type: ignore[untyped-decorator]
def _shape_attention(attention: str, query: torch.Tensor, *_: object) -> torch.Tensor:
    del attention
    num_sequences, num_heads, num_rows, head_dim = query.shape
    return query.new_empty((num_sequences, num_rows, num_heads, head_dim))


def _make_steps(context_length: int) -> Iterator[list[ScheduledSequence]]:
    """Yield a step of each kind that the compiler tells apart.

    Those are one or several rows, of which none, one or several are wanted. That several may be any
    number is found out by the compiler when it sees a second number of rows.
    """
    [one] = make_warm_up(1)
    [two] = make_warm_up(min(2, context_length))
    # A prompt that goes on in another step.
    [part] = make_warm_up(2)
    part = ScheduledSequence(part.sequence, 1)
    yield from ([one], [two] * 2, [two], [part], [part] * 2)


def _first_line(error: BaseException) -> str:
    # The errors of graphs name the compiler first, and then what it said.
    inner = getattr(error, "inner_exception", error)
    return str(inner).strip().partition("\n")[0].rstrip(" .:") or type(inner).__name__
