"""Parts of ONNX models as models of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

# Integers up to so many are likely shapes, axes or indices, on which ranks depend: they stay constants.
_CONSTANT_ELEMENTS = 16


def names_read(node: onnx.NodeProto) -> set[str]:
    """What a node reads, also from inside of its subgraphs."""
    names = {name for name in node.input if name}
    for graph in _graphs(node):
        inside = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        inside |= {name for inner in graph.node for name in inner.output}
        used = {name for inner in graph.node for name in names_read(inner)}
        names |= (used | {value.name for value in graph.output}) - inside
    return names


def values_of(model: onnx.ModelProto) -> list[str]:
    """Every value that a node of the main graph produces, in topological order."""
    return [name for node in model.graph.node for name in node.output if name]


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with other outputs, without the nodes and inputs that these do not need."""
    wanted = set(names)
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted |= names_read(node)
    declared = {value.name: value for value in model.graph.output}
    outputs = [declared.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in names]
    inputs = [value for value in model.graph.input if value.name in wanted]
    return _rebuilt(model, kept[::-1], inputs, outputs, ())


def feed_of(model: onnx.ModelProto, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that a model takes."""
    return {value.name: values[value.name] for value in model.graph.input if value.name in values}


class Cutter:
    """Cuts parts out of a model.

    Args:
        model: its nodes are in topological order.
        values: of every input and intermediate value, from a run.
    """

    def __init__(self, model: onnx.ModelProto, values: Mapping[str, Any]) -> None:
        self._model = model
        self._values = values
        self._declared = {value.name: value for value in _inferred(model)}
        self._initialized = {tensor.name for tensor in model.graph.initializer}

    def cut(self, positions: Collection[int]) -> tuple[onnx.ModelProto, dict[str, Any]]:
        """The nodes at some positions as a model, and values for its inputs.

        What they read from elsewhere becomes an input, or a constant where it is a few integers. What no
        other of them reads becomes an output, as do the outputs of the model.
        """
        nodes = [self._model.graph.node[position] for position in sorted(positions)]
        produced = [name for node in nodes for name in node.output if name]
        read = {name for node in nodes for name in names_read(node)}
        ends = {value.name for value in self._model.graph.output}
        outputs = [name for name in produced if name not in read or name in ends]
        fed = sorted(read - set(produced) - self._initialized)
        constants = [name for name in fed if self._is_constant(name)]
        inputs = [name for name in fed if name not in constants]
        model = _rebuilt(
            self._model,
            nodes,
            [self._info(name) for name in inputs],
            [self._info(name) for name in outputs],
            [numpy_helper.from_array(np.asarray(self._values[name]), name) for name in constants],
        )
        return model, {name: self._values[name] for name in inputs}

    def _is_constant(self, name: str) -> bool:
        if name in {value.name for value in self._model.graph.input}:
            return False
        value = self._values.get(name)
        return isinstance(value, np.ndarray) and value.dtype.kind in "iu" and value.size <= _CONSTANT_ELEMENTS

    def _info(self, name: str) -> onnx.ValueInfoProto:
        """How the model declares a value, else what it was in the run."""
        if name in self._declared:
            return self._declared[name]
        value = self._values.get(name)
        if not isinstance(value, np.ndarray | np.generic):
            return onnx.helper.make_empty_tensor_value_info(name)
        element = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
        return onnx.helper.make_tensor_value_info(name, element, np.shape(value))


def _inferred(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    """Declared and inferred values whose rank is known."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        graph = model.graph
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            yield value


def _rebuilt(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    """A model of other nodes, with what they read of the initializers, opsets and functions."""
    read = {name for node in nodes for name in names_read(node)} | {value.name for value in outputs}
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in read]
    sparse = [tensor for tensor in model.graph.sparse_initializer if tensor.values.name in read]
    graph = onnx.helper.make_graph(
        nodes,
        model.graph.name or "graph",
        inputs,
        outputs,
        [*initializers, *constants],
        sparse_initializer=sparse,
    )
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, functions=model.functions, ir_version=model.ir_version
    )


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
