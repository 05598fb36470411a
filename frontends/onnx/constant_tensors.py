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


def constant_tensor(proto: onnx.TensorProto) -> Array:
    """A tensor's elements. Raw bytes are used where they lie: onnx's own reader copies them several times.

    Raises:
        InvalidModelError: there are more or fewer bytes than the shape says.
    """
    dtype = RAW_TYPES.get(proto.data_type)
    if dtype is not None and proto.HasField("raw_data") and sys.byteorder == "little":
        _check_size(proto, dtype)
        return np.frombuffer(proto.raw_data, dtype).reshape(tuple(proto.dims))
    return np.asarray(onnx.numpy_helper.to_array(proto))


def _check_size(proto: onnx.TensorProto, dtype: np.dtype[Any]) -> None:
    expected, found = math.prod(proto.dims) * dtype.itemsize, len(proto.raw_data)
    if expected != found:
        raise InvalidModelError(
            f"tensor {proto.name!r} is broken: its shape {list(proto.dims)} needs {expected} bytes, "
            f"not {found}; export the model again"
        )
