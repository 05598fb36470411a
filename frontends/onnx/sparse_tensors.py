"""Weights that a file stores as their elements other than zero, written out."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from ...runtime.errors import InvalidModelError

# No tensor of a file can hold more.
_MOST_BYTES = 1 << 31


def dense(tensor: onnx.SparseTensorProto) -> onnx.TensorProto:
    """The tensor with its zeros. Indices are flat, [count], or one for each axis, [count, rank].

    Raises:
        InvalidModelError: shape, indices and values contradict one another, or the result is too large.
    """
    name = tensor.values.name
    if uses_external_data(tensor.values) or uses_external_data(tensor.indices):
        raise InvalidModelError(f"the sparse tensor '{name}' lies outside of the file: save it in the file")
    try:
        onnx.checker.check_sparse_tensor(tensor)
        values, indices = numpy_helper.to_array(tensor.values), numpy_helper.to_array(tensor.indices)
    except (onnx.checker.ValidationError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidModelError(f"the sparse tensor '{name}' is broken: {reason}") from None
    shape = tuple(tensor.dims)
    if math.prod(shape) * values.itemsize > _MOST_BYTES:
        raise InvalidModelError(f"the sparse tensor '{name}' is too large to be written out: {list(shape)}")
    array = np.zeros(shape, values.dtype)
    array[np.unravel_index(indices, shape) if indices.ndim == 1 else tuple(indices.T)] = values
    return numpy_helper.from_array(array, name)


def write_out(graph: onnx.GraphProto) -> None:
    """Makes the sparse initializers of a graph, and of the graphs in it, ordinary ones.

    Raises:
        InvalidModelError: one of them is broken.
    """
    graph.initializer.extend(dense(tensor) for tensor in graph.sparse_initializer)
    graph.ClearField("sparse_initializer")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                write_out(inner)
