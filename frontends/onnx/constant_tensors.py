"""ONNX tensors as arrays."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx

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
    """A tensor's elements. Raw bytes are used where they lie: onnx's own reader copies them several times."""
    dtype = RAW_TYPES.get(proto.data_type)
    if dtype is not None and proto.HasField("raw_data") and sys.byteorder == "little":
        return np.frombuffer(proto.raw_data, dtype).reshape(tuple(proto.dims))
    return np.asarray(onnx.numpy_helper.to_array(proto))
