"""Weights and inputs that are not what they claim to be."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from .mutation_table import TYPES, Generator, all_nodes, breaks, extreme, some


def _tensors(model: onnx.ModelProto) -> list[TensorProto]:
    """The initializers, and the values of constants."""
    attributes = [attribute for node in all_nodes(model.graph) for attribute in node.attribute]
    return [*model.graph.initializer, *(a.t for a in attributes if a.HasField("t"))]


def _tensor(model: onnx.ModelProto, generator: Generator) -> TensorProto | None:
    tensor: TensorProto | None = some(_tensors(model), generator)
    return tensor


@breaks
def extreme_weight_shape(model: onnx.ModelProto, generator: Generator) -> bool:
    """A tensor claims other extents than it has data for."""
    tensor = _tensor(model, generator)
    if tensor is None:
        return False
    if tensor.dims and generator.integers(4):
        tensor.dims[int(generator.integers(len(tensor.dims)))] = extreme(generator)
    else:
        tensor.dims.extend([extreme(generator)] * int(generator.integers(1, 4)))
    return True


@breaks
def transposed_weight(model: onnx.ModelProto, generator: Generator) -> bool:
    tensor = _tensor(model, generator)
    if tensor is None or len(tensor.dims) < 2:
        return False
    tensor.dims[:] = list(tensor.dims)[::-1]
    return True


@breaks
def other_weight_type(model: onnx.ModelProto, generator: Generator) -> bool:
    tensor = _tensor(model, generator)
    if tensor is not None:
        tensor.data_type = int(some(TYPES, generator))
    return tensor is not None


@breaks
def short_weight(model: onnx.ModelProto, generator: Generator) -> bool:
    tensor = _tensor(model, generator)
    if tensor is None:
        return False
    if tensor.raw_data:
        tensor.raw_data = tensor.raw_data[: int(generator.integers(len(tensor.raw_data)))]
    for data in (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data):
        del data[len(data) // 2 :]
    return True


@breaks
def extreme_constant(model: onnx.ModelProto, generator: Generator) -> bool:
    """Small integer tensors, which are shapes, axes and indices, hold other numbers."""
    integers = [
        tensor
        for tensor in _tensors(model)
        if tensor.data_type == TensorProto.INT64
        and 0 < np.prod(tensor.dims) <= 8
        and len(tensor.raw_data) >= 8
    ]
    tensor = some(integers, generator)
    if tensor is None:
        return False
    values = np.frombuffer(tensor.raw_data, np.int64).copy()
    values[int(generator.integers(len(values)))] = extreme(generator)
    tensor.raw_data = values.tobytes()
    return True


@breaks
def extreme_input_shape(model: onnx.ModelProto, generator: Generator) -> bool:
    value = some(model.graph.input, generator)
    if value is None:
        return False
    shape = value.type.tensor_type.shape
    if not shape.dim:
        shape.dim.add()
    shape.dim[int(generator.integers(len(shape.dim)))].dim_value = extreme(generator)
    return True


@breaks
def other_rank(model: onnx.ModelProto, generator: Generator) -> bool:
    value = some(model.graph.input, generator)
    if value is None:
        return False
    shape = value.type.tensor_type.shape
    for _ in range(int(generator.integers(1, 9))):
        shape.dim.add().dim_value = 2
    return True


@breaks
def same_symbols(model: onnx.ModelProto, generator: Generator) -> bool:
    """All extents of an input have one name."""
    value = some(model.graph.input, generator)
    if value is None:
        return False
    for dim in value.type.tensor_type.shape.dim:
        dim.dim_param = str(some(("N", "1", "-1", "N + 1", "?", ""), generator))
    return True


@breaks
def remove_shape(model: onnx.ModelProto, generator: Generator) -> bool:
    value = some(model.graph.input, generator)
    if value is not None:
        value.type.tensor_type.ClearField("shape")
    return value is not None


@breaks
def remove_type(model: onnx.ModelProto, generator: Generator) -> bool:
    value = some([*model.graph.input, *model.graph.output], generator)
    value.ClearField("type")
    return True


@breaks
def other_input_type(model: onnx.ModelProto, generator: Generator) -> bool:
    value = some(model.graph.input, generator)
    if value is not None:
        value.type.tensor_type.elem_type = int(some(TYPES, generator))
    return value is not None
