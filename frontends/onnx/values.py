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


@dataclass(frozen=True)
class RunTimeSequence:
    """A sequence whose length only the run knows; its entries agree in rank and type.

    Attributes:
        elements: [total], the elements of all entries, one entry after another.
        shapes: [count, rank] in int64, the entries' shapes.
    """

    elements: Expr
    shapes: Expr


@dataclass(frozen=True)
class RunTimeOptional:
    """An optional of which only the run knows whether it is there.

    Attributes:
        present: a boolean scalar.
        value: the value, arbitrary where it is absent.
    """

    present: Expr
    value: Expr | RunTimeSequence


@dataclass(frozen=True)
class NarrowTensor:
    """A run-time tensor of an element type that takes a byte each, whatever its width.

    Attributes:
        storage: int8 or uint8: values of integers, codes of floats.
        dtype: the element type that ONNX gives it.
    """

    storage: Expr
    dtype: str


Value: TypeAlias = (
    Array | SymbolicArray | Expr | NarrowTensor | Sequence | RunTimeSequence | RunTimeOptional | None
)
"""A compile-time constant, a symbolic array, a Relax expression (a tensor computed at run time), one of a
narrow type, a sequence of them, or None for an absent optional value; or a structure that the run knows."""


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


def is_narrow(dtype: str) -> bool:
    """Whether elements of a type are held in bytes, as a ``NarrowTensor``."""
    return dtype.startswith(("float8", "float4")) or dtype in ("int4", "uint4", "int2", "uint2")


def storage_dtype(dtype: str) -> str:
    """The type of the bytes that hold a narrow type; any other type holds itself."""
    if not is_narrow(dtype):
        return dtype
    return "int8" if dtype in ("int4", "int2") else "uint8"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type of a TVM type's name; ml_dtypes supplies the narrow ones."""
    return np.dtype(getattr(ml_dtypes, name, name))


def dtype_name(element_type: int) -> str:
    """The TVM name of an ONNX element type. Raises UnsupportedOperatorError for those that do not compile.

    Strings and complex numbers have no kernels.
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
    _T.FLOAT8E4M3FN: "float8_e4m3fn",
    _T.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    _T.FLOAT8E5M2: "float8_e5m2",
    _T.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    _T.FLOAT8E8M0: "float8_e8m0fnu",
    _T.FLOAT4E2M1: "float4_e2m1fn",
    _T.INT4: "int4",
    _T.UINT4: "uint4",
    _T.INT2: "int2",
    _T.UINT2: "uint2",
}
