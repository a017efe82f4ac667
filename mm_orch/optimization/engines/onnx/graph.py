"""Writes an ONNX graph node by node, its weights into a file beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Of ONNX Runtime's own operators: fused norms, rotations and products with quantised weights.
RUNTIME_DOMAIN = "com.microsoft"
_OPSET_VERSION = 23
_IR_VERSION = 10
# So that the runtime can map each tensor from the file.
_ALIGNMENT_BYTES = 4096


class GraphWriter:
    """A graph in the making.

    Args:
        weights: open for writing, empty; lies beside the model file later.
        weights_name: its file name.
    """

    def __init__(self, weights: BinaryIO, weights_name: str) -> None:
        self._weights = weights
        self._weights_name = weights_name
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constant_names: set[str] = set()

    def add_input(self, name: str, dtype: int, dims: Sequence[int | str]) -> str:
        """Declare an input of the graph; text names dimensions that differ from run to run."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def add_output(self, name: str, dims: Sequence[int | str]) -> None:
        """Declare a float output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))

    def add_constant(self, name: str, array: NDArray[Any]) -> str:
        """Store a small array in the graph itself, once by each name."""
        if name not in self._constant_names:
            self._constant_names.add(name)
            self._initializers.append(numpy_helper.from_array(array, name))
        return name

    def add_weight(self, name: str, array: NDArray[Any]) -> str:
        """Store an array in the weights file; raises OSError when it cannot be written."""
        array = np.ascontiguousarray(array)
        self._weights.write(b"\0" * (-self._weights.tell() % _ALIGNMENT_BYTES))
        place = {
            "location": self._weights_name,
            "offset": str(self._weights.tell()),
            "length": str(array.nbytes),
        }
        self._weights.write(array.data)
        tensor = TensorProto(
            name=name,
            dims=array.shape,
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        self._initializers.append(tensor)
        return name

    def add_node(
        self, operator: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: Any
    ) -> str:
        """Add a node and return its first output; an operator may be written domain:name."""
        domain, _, name = operator.rpartition(":")
        outputs = [outputs] if isinstance(outputs, str) else list(outputs)
        self._nodes.append(
            helper.make_node(name, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )
        return outputs[0]

    def finish(self) -> onnx.ModelProto:
        """Return the model; the weights file is complete but not closed."""
        graph = helper.make_graph(
            self._nodes, "decoder", self._inputs, self._outputs, self._initializers
        )
        return helper.make_model(
            graph,
            producer_name="mm_orch",
            ir_version=_IR_VERSION,
            opset_imports=[
                helper.make_opsetid("", _OPSET_VERSION),
                helper.make_opsetid(RUNTIME_DOMAIN, 1),
            ],
        )
