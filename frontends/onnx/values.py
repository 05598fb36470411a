"""What an ONNX value is while its model is being imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from tvm.ir import Expr

from ...runtime.errors import UnsupportedOperatorError

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class SymbolicArray:
    """An array whose elements depend on nothing but the model's symbolic dimensions.

    Shapes and all that models compute from them live here, so that they never become data.

    Attributes:
        elements: object array of int, float, bool and TIR expressions; any rank.
        dtype: the element type that ONNX gives it.
    """

    elements: NDArray[np.object_]
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape


@dataclass(frozen=True)
class Sequence:
    """An ONNX sequence whose length is known: the values it holds, in order."""

    items: tuple[Value, ...]


Value: TypeAlias = Array | SymbolicArray | Expr | Sequence | None
"""A compile-time constant, a symbolic array, a Relax expression (a tensor computed at run time), a
sequence of them, or None for an absent optional value."""


def symbolic(elements: Iterable[Any], dtype: str = "int64") -> Value:
    """A vector of extents: a constant if they are all known."""
    return freeze(SymbolicArray(object_array(list(elements)), dtype))


def object_array(elements: list[Any]) -> NDArray[np.object_]:
    """A vector that holds the elements as they are (NumPy would look inside expressions)."""
    array = np.empty(len(elements), dtype=object)
    for position, element in enumerate(elements):
        array[position] = element
    return array


def freeze(value: SymbolicArray) -> Array | SymbolicArray:
    """A constant if every element is known, else the value itself."""
    if any(isinstance(element, Expr) for element in value.elements.flat):
        return value
    return value.elements.astype(numpy_dtype(value.dtype))


def is_constant(value: Value) -> bool:
    """Whether the value is known while compiling; an absent value is."""
    return value is None or isinstance(value, np.ndarray)


def is_shape_like(value: Value) -> bool:
    """Whether the value depends on nothing but symbolic dimensions."""
    return is_constant(value) or isinstance(value, SymbolicArray)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type of a TVM type's name; ml_dtypes supplies the narrow ones."""
    return np.dtype(getattr(ml_dtypes, name, name))


def dtype_name(element_type: int) -> str:
    """The TVM name of an ONNX element type. Raises UnsupportedOperatorError for those that do not compile.

    Strings and complex numbers have no kernels; TVM converts 8-bit floats and stores 4-bit integers otherwise
    than ONNX does.
    """
    if element_type not in _DTYPE_NAMES:
        kind = onnx.TensorProto.DataType.Name(element_type) if element_type in _KNOWN_TYPES else element_type
        raise UnsupportedOperatorError(f"the element type {kind} is not supported")
    return _DTYPE_NAMES[element_type]


def onnx_type(name: str) -> int:
    """The inverse of ``dtype_name``."""
    return next(element for element, known in _DTYPE_NAMES.items() if known == name)


_T = onnx.TensorProto
_KNOWN_TYPES = frozenset(onnx.TensorProto.DataType.values())
_DTYPE_NAMES: dict[int, str] = {
    _T.FLOAT: "float32",
    _T.UINT8: "uint8",
    _T.INT8: "int8",
    _T.UINT16: "uint16",
    _T.INT16: "int16",
    _T.INT32: "int32",
    _T.INT64: "int64",
    _T.BOOL: "bool",
    _T.FLOAT16: "float16",
    _T.DOUBLE: "float64",
    _T.UINT32: "uint32",
    _T.UINT64: "uint64",
    _T.BFLOAT16: "bfloat16",
}
