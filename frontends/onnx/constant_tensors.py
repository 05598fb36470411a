"""ONNX tensors as arrays."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import onnx

from ...runtime.errors import InvalidModelError
from .values import Array

_T = onnx.TensorProto
RAW_TYPES: dict[int, np.dtype[Any]] = {
    _T.FLOAT: np.dtype(np.float32),
    _T.DOUBLE: np.dtype(np.float64),
    _T.FLOAT16: np.dtype(np.float16),
    _T.INT8: np.dtype(np.int8),
    _T.UINT8: np.dtype(np.uint8),
    _T.INT32: np.dtype(np.int32),
    _T.INT64: np.dtype(np.int64),
}
"""The element types whose raw bytes are, on a little-endian machine, what NumPy holds."""


def is_raw(proto: onnx.TensorProto) -> bool:
    """Whether a tensor's elements are raw bytes that are usable where they lie."""
    return sys.byteorder == "little" and proto.data_type in RAW_TYPES and proto.HasField("raw_data")


def constant_tensor(proto: onnx.TensorProto) -> Array:
    """A tensor's elements. Raw bytes are used where they lie: onnx's own reader copies them several times.

    Raises:
        InvalidModelError: there are more or fewer bytes than the shape says.
    """
    if not is_raw(proto):
        return np.asarray(onnx.numpy_helper.to_array(proto))
    dtype, shape = RAW_TYPES[proto.data_type], tuple(proto.dims)
    data = proto.raw_data  # every access copies
    expected = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != len(data):
        raise InvalidModelError(
            f"tensor {proto.name!r} is broken: its shape {list(shape)} needs {expected} bytes, "
            f"not {len(data)}; export the model again"
        )
    return np.frombuffer(data, dtype).reshape(shape)
