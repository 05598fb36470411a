"""The walk over an ONNX graph that builds a Relax function."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as PySequence

import numpy as np
import onnx
from tvm import relax
from tvm.ir import Expr

from ...runtime.errors import InvalidModelError, RelaxcError, StaticInputRequired, UnsupportedOperatorError
from ..imported_model import ImportedModel
from . import ops, shape_numbers, shape_structure  # noqa: F401 - they register what they define
from .binding_order import to_dataflow
from .branch_choices import Choices, first_success
from .constant_folding import fold
from .constant_tensors import constant_tensor
from .extents import Extents
from .function_bodies import body_of, has_body
from .graph_builder import GraphBuilder
from .load import LoadedModel, load_model, opset_versions
from .narrow_nodes import rewrapped, unwrapped
from .node import Node, describe
from .registry import find
from .results import result_expression, result_spec
from .scope import Scope
from .shape_evaluators import evaluate
from .signature import GraphInputs, bind_inputs
from .tensor_sizes import LIMITS, is_addressable, known_extents
from .values import SymbolicArray, Value


def import_onnx(
    model: str | os.PathLike[str] | onnx.ModelProto,
    shapes: Mapping[str, PySequence[int]] | None = None,
    static_inputs: Mapping[str, np.ndarray] | None = None,
) -> ImportedModel:
    """Turns an ONNX model into a Relax module.

    Args:
        model: a file's path, or the model itself.
        shapes: input name -> extents, which bind the input's symbolic dimensions.
        static_inputs: input name -> value, which becomes part of the module.

    Raises:
        InvalidModelError: the file or the model in it is broken.
        UnsupportedOperatorError: some operators cannot be converted; all of them are named.
        ShapeError: ``shapes`` or ``static_inputs`` do not fit the model.
        StaticInputRequired: a rank or type depends on the value of a run-time input.
    """
    try:
        loaded = load_model(model)
        refuse_unsupported(loaded)
        return first_success(lambda choices: _import(loaded, shapes or {}, static_inputs or {}, choices))
    except RelaxcError as error:
        # Names in broken files may hold anything, line breaks included.
        raise _with_message(error, " ".join(str(error).split())) from error


def _import(
    loaded: LoadedModel,
    shapes: Mapping[str, PySequence[int]],
    static_inputs: Mapping[str, np.ndarray],
    choices: Choices,
) -> ImportedModel:
    extents = Extents()
    builder = GraphBuilder(extents)
    inputs = bind_inputs(loaded.proto.graph, extents, shapes, static_inputs)
    walk = _Walk(loaded.opsets, builder, choices)
    declared = loaded.proto.graph.output
    with builder.main_function(inputs.parameters):
        outputs = walk.main(inputs)
        builder.block_builder.emit_func_output(
            relax.Tuple([result_expression(builder, value) for value in outputs])
        )
    module = builder.block_builder.finalize()
    module = relax.transform.DeadCodeElimination(["main"])(module)
    module = to_dataflow(module)
    specs = [result_spec(builder, output, value) for output, value in zip(declared, outputs, strict=True)]
    return ImportedModel(module, inputs.specs, tuple(specs), loaded.source_hash)


class _Walk:
    """Converts graphs node by node, in scopes that see the values around them."""

    def __init__(self, opsets: Mapping[str, int], builder: GraphBuilder, choices: Choices) -> None:
        self._opsets = dict(opsets)
        self._builder = builder
        self._choices = choices

    def main(self, inputs: GraphInputs) -> list[Value]:
        """The main graph's outputs."""
        graph = inputs.graph
        scope = Scope(graph, None)
        for name, value in inputs.values.items():
            scope.bind(name, value)
        return [self._materialized(value) for value in self._outputs(graph, scope)]

    def _materialized(self, value: Value) -> Value:
        """Shape arithmetic that leaves the model becomes a tensor."""
        return self._builder.tensor(value) if isinstance(value, SymbolicArray) else value

    def _subgraph(self, graph: onnx.GraphProto, inputs: PySequence[Value], outer: Scope) -> list[Value]:
        scope = Scope(graph, outer)
        for declared, value in zip(graph.input, inputs, strict=True):
            scope.bind(declared.name, value)
        return self._outputs(graph, scope)

    def _outputs(self, graph: onnx.GraphProto, scope: Scope) -> list[Value]:
        for initializer in graph.initializer:
            if not scope.is_bound(initializer.name):
                scope.bind(initializer.name, constant_tensor(initializer))
        for proto in graph.node:
            self._convert(proto, scope)
        return [scope.value(output.name) for output in graph.output]

    def _convert(self, proto: onnx.NodeProto, scope: Scope) -> None:
        node = Node(
            proto,
            self._opsets.get(proto.domain, 1),
            [scope.value(name) if name else None for name in proto.input],
            self._builder,
            lambda graph, inputs: self._subgraph(graph, inputs, scope),
            scope.graph_inputs_of,
            self._choices,
        )
        try:
            results = self._results(node)
        except RelaxcError as error:
            if node.label in str(error):
                raise
            raise _located(error, node.label) from error
        except Exception as error:  # whatever TVM, NumPy and onnx raise when a node contradicts its operator
            raise InvalidModelError(f"{node.label} cannot be converted: {_first_line(error)}") from error
        for name, value in zip(proto.output, results, strict=False):
            if name:
                scope.bind(name, value)

    def _results(self, node: Node) -> list[Value]:
        known = evaluate(node) or fold(node)
        if known is not None:
            return known
        converter = find(node.domain, node.op_type, node.opset)
        if converter is None:
            return self._by_its_body(node)
        moved = unwrapped(node)
        result = converter(moved or node)
        results = list(result) if isinstance(result, list | tuple) else [result]
        if moved is not None:
            results = rewrapped(node, results)
        return [self._bound(value, name) for value, name in zip(results, node.outputs, strict=False)]

    def _by_its_body(self, node: Node) -> list[Value]:
        """Converts an operator by the graph of simpler ones that the specification defines it by."""
        body = body_of(node.proto, node.opset, node.inputs)
        if body is None:
            raise UnsupportedOperatorError(f"{node.label} is not supported in opset {node.opset}")
        opsets = {**self._opsets, **opset_versions(body.opset_import)}
        graph = onnx.GraphProto(node=body.node)
        scope = Scope(graph, None)
        for position, name in enumerate(body.input):
            scope.bind(name, node.value(position))
        inner = _Walk(opsets, self._builder, self._choices)
        for proto in graph.node:
            inner._convert(proto, scope)
        wanted = [bool(name) for name in node.outputs]
        return [scope.value(name) if used else None for name, used in zip(body.output, wanted, strict=False)]

    def _bound(self, value: Value, name: str) -> Value:
        if not isinstance(value, Expr):
            return value
        bound = self._builder.bound(value, name)
        extents = known_extents(bound)
        if any(extent < 0 for extent in extents):
            raise InvalidModelError(
                f"the result '{name}' would have the shape {extents}: the input is too small"
            )
        if not is_addressable(extents):
            raise InvalidModelError(f"the result '{name}' of shape {extents} is too large: {LIMITS}")
        return bound


def _located(error: RelaxcError, where: str) -> RelaxcError:
    return _with_message(error, f"{where}: {error}")


def _with_message(error: RelaxcError, message: str) -> RelaxcError:
    if isinstance(error, StaticInputRequired):
        return StaticInputRequired(message, error.names)
    return type(error)(message)


def refuse_unsupported(loaded: LoadedModel) -> None:
    """Raises one UnsupportedOperatorError that names every node without a converter."""
    missing: dict[str, list[str]] = {}
    for proto in _all_nodes(loaded.proto.graph):
        opset = loaded.opsets.get(proto.domain, 1)
        known = find(proto.domain, proto.op_type, opset) is not None
        if not known and not has_body(proto.domain, proto.op_type, opset):
            operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
            name = proto.name or (proto.output[0] if proto.output else "unnamed")
            missing.setdefault(f"{operator} (opset {opset})", []).append(name)
    if missing:
        listed = "; ".join(f"{operator} at {', '.join(names)}" for operator, names in missing.items())
        raise UnsupportedOperatorError(f"the model uses operators that relaxc cannot convert: {listed}")


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for proto in graph.node:
        yield proto
        for attribute in proto.attribute:
            for subgraph in [attribute.g, *attribute.graphs]:
                yield from _all_nodes(subgraph)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


__all__ = ["describe", "import_onnx"]
