"""What is in an ONNX model: operators, parameters, operations."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from ...frontends.onnx.load import load_model
from ...runtime.errors import InvalidModelError, ShapeError
from ...runtime.signature import Dim, TensorSpec
from .polynomial import Polynomial

Shape = tuple[Dim, ...]

# Shape inference reads the values of small tensors (a Reshape's target, say), never those of weights.
_LARGEST_SHAPE_TENSOR = 1024


@dataclass(frozen=True)
class OnnxSummary:
    """A model at a glance.

    Attributes:
        inputs, outputs: of the graph, without inputs that have a constant default.
        operators: how many nodes of each operator, those of subgraphs included.
        parameters: elements of all constant tensors.
        flops: operations of the convolutions, matrix products and recurrent layers of the main graph, two
            for each multiply-add.
        uncounted: nodes of those kinds whose shapes cannot be inferred.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    parameters: int
    flops: Polynomial
    uncounted: int


def summarize_onnx(path: Path, shapes: Mapping[str, Sequence[int]]) -> OnnxSummary:
    """Reads a model; ``shapes`` binds the symbolic dimensions of its inputs.

    Raises:
        InvalidModelError: it cannot be read.
        ShapeError: ``shapes`` does not fit it.
    """
    model = load_model(path).proto
    parameters = sum(math.prod(tensor.dims) for tensor in _tensors(model.graph))
    for tensor in model.graph.initializer:
        _drop_weights(tensor)
    _name_dynamic_extents(model.graph)
    _bind(model.graph, shapes)
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (RuntimeError, onnx.shape_inference.InferenceError) as error:
        raise InvalidModelError(f"{path}: shape inference fails: {str(error).splitlines()[0]}") from error
    flops, uncounted = _count_flops(model.graph)
    return OnnxSummary(
        inputs=tuple(map(_spec, _free_inputs(model.graph))),
        outputs=tuple(map(_spec, model.graph.output)),
        operators=dict(Counter(_operators(model.graph)).most_common()),
        parameters=parameters,
        flops=flops,
        uncounted=uncounted,
    )


def _name_dynamic_extents(graph: onnx.GraphProto) -> None:
    """Some exporters write -1 or 0 for an extent that may vary."""
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value < 1:
                dim.dim_param = f"{value.name}_d{axis}"


def _count_flops(graph: onnx.GraphProto) -> tuple[Polynomial, int]:
    shapes = {value.name: _shape(value) for value in [*graph.input, *graph.value_info, *graph.output]}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    total, uncounted = Polynomial(), 0
    for node in graph.node:
        if (count := _FLOPS.get(node.op_type)) is None:
            continue
        output = next((name for name in node.output if name), "")
        used = [shapes.get(name) for name in (*node.input, output) if name]
        if None in used:
            uncounted += 1
        else:
            *inputs, result = (shapes.get(name) or () for name in (*node.input, output))
            total += count(node, inputs, result)
    return total, uncounted


_Count = Callable[[onnx.NodeProto, list[Shape], Shape], Polynomial]


def _convolution(weight: int) -> _Count:
    """Each output element takes one multiply-add for each weight of its filter, [M, C/groups, kernel...]."""
    return lambda node, inputs, output: Polynomial.product((2, *output, *inputs[weight][1:]))


def _transposed_convolution(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> Polynomial:
    """Each input element is spread over one filter, [C, M/groups, kernel...]."""
    return Polynomial.product((2, *inputs[0], *inputs[1][1:]))


def _matrix_product(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> Polynomial:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return Polynomial.product((2, *output, inputs[0][0 if transposed else -1]))


def _recurrent(node: onnx.NodeProto, inputs: list[Shape], output: Shape) -> Polynomial:
    """X is [steps, batch, inputs]; every step takes every weight of W and R once for each batch entry."""
    steps = (2, *inputs[0][:2])
    return Polynomial.product((*steps, *inputs[1])) + Polynomial.product((*steps, *inputs[2]))


_FLOPS: dict[str, _Count] = {
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matrix_product,
    "MatMulInteger": _matrix_product,
    "QLinearMatMul": _matrix_product,
    "Gemm": _matrix_product,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}


def _bind(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Writes the extents into the inputs, and into what else is named after the same symbols."""
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    bound: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            raise ShapeError(f"there is no input {name!r} to shape; the inputs are {', '.join(inputs)}")
        if len(shape) != len(inputs[name]):
            raise ShapeError(f"input {name!r} has rank {len(inputs[name])}; got a shape of rank {len(shape)}")
        for dim, extent in zip(inputs[name], shape, strict=True):
            if dim.dim_param:
                bound[dim.dim_param] = extent
            dim.dim_value = extent
    for value in [*graph.input, *graph.value_info, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in bound:
                dim.dim_value = bound[dim.dim_param]


def _free_inputs(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in graph.initializer}
    return (value for value in graph.input if value.name not in constants)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    code = value.type.tensor_type.elem_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(code).name if code else value.type.WhichOneof("value") or "?"
    return TensorSpec(value.name, _shape(value) or (), dtype)


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    """None where nothing is known; an extent without a name is a symbol "?"."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    )


def _drop_weights(tensor: onnx.TensorProto) -> None:
    """A protobuf that is serialized, as shape inference does, may not exceed 2 GB."""
    if math.prod(tensor.dims) > _LARGEST_SHAPE_TENSOR:
        for field, _ in tensor.ListFields():
            if field.name.endswith("_data"):
                tensor.ClearField(field.name)


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for subgraph in _subgraphs(node):
            yield from _operators(subgraph)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
        for subgraph in _subgraphs(node):
            yield from _tensors(subgraph)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
