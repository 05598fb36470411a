"""Builds ONNX graphs layer by layer, with random weights, in the form in which PyTorch exports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Dim = int | str
OPSET = 17
_CONSTANT_PREFIX = "constant."
_RUNNING_STATISTICS = (".running_mean", ".running_var")


class GraphBuilder:
    """An ONNX graph under construction. Values are named by strings, as in ONNX.

    Weights are drawn from a generator with a fixed seed and scaled so that activations neither vanish nor
    explode: the outputs of two correct implementations then agree to a few units in the last place.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[Dim], dtype: int = TensorProto.FLOAT) -> str:
        """A graph input; a str in ``shape`` is a symbolic dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def parameter(self, name: str, value: NDArray[Any]) -> str:
        """A trained weight, counted by ``parameter_count``."""
        self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """A constant that is not a weight: a shape, an axis, a scalar."""
        return self.parameter(f"{_CONSTANT_PREFIX}{len(self._initializers)}", np.asarray(value, dtype))

    def normal(self, name: str, shape: Sequence[int], scale: float, mean: float = 0.0) -> str:
        """A weight drawn from the normal distribution."""
        draw = self._random.standard_normal(tuple(shape), dtype=np.float32)
        return self.parameter(name, draw * np.float32(scale) + np.float32(mean))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return that output's name."""
        return self.op_multi(op_type, 1, *inputs, **attributes)[0]

    def op_multi(self, op_type: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Append a node with several outputs."""
        base = f"/{op_type.lower()}_{len(self._nodes)}"
        names = [f"{base}.{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, list(inputs), names, name=base, **attributes))
        return names

    def build(self, outputs: dict[str, str], shapes: dict[str, Sequence[Dim]]) -> onnx.ModelProto:
        """The checked model.

        Args:
            outputs: the value that each graph output takes, by the output's name.
            shapes: the shape of each graph output.
        """
        for name, value in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], name=f"/output_{name}"))
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shapes[n])) for n in outputs]
        initializers = list(self._initializers.values())
        graph = helper.make_graph(self._nodes, self._name, self._inputs, infos, initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def parameter_count(model: onnx.ModelProto) -> int:
    """How many trained numbers the model holds; batch-norm's running statistics are not trained."""
    return sum(int(np.prod(t.dims)) for t in model.graph.initializer if _is_parameter(t.name))


def _is_parameter(name: str) -> bool:
    return not name.startswith(_CONSTANT_PREFIX) and not name.endswith(_RUNNING_STATISTICS)
