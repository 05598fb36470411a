"""Passing arrays to the virtual machine and back.

The kernels rely on 64-byte alignment and compact strides, DLPack as NumPy speaks it knows neither bfloat16
nor the 8-bit floats, and NumPy gives arrays without elements strides that TVM refuses. So every array goes
through memory of known alignment and, where needed, through a view with another element type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .library import load_runtime
from .signature import ALIGNMENT, PlacedTensor, TensorSpec
from .structures import tensors_of, unpacked

# An element type that NumPy's DLPack does not know crosses as an unsigned integer of the same width.
_CARRIER = "uint16"
# A value of at most 4 bits takes one byte, in NumPy (ml_dtypes) as in compiled code.
_WIDENED = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
# Compiled code takes floats of at most 8 bits as their codes.
_CODED = "uint8"


@dataclass(frozen=True)
class ElementType:
    """One element type on both sides.

    Attributes:
        numpy: the caller's dtype.
        name: what the virtual machine calls it.
        carrier: the dtype under which its memory crosses.
    """

    numpy: np.dtype[Any]
    name: str
    carrier: np.dtype[Any]

    @property
    def staging(self) -> np.dtype[Any]:
        """The dtype into which a caller's array is copied: another only where the value must be widened."""
        return self.carrier if self.numpy.name in _WIDENED else self.numpy

    @classmethod
    def named(cls, name: str) -> ElementType:
        """The type with a signature's name. Raises TypeError if there is none."""
        try:
            numpy_type = np.dtype(name)
        except TypeError:
            numpy_type = _extended_type(name)
        if name in _WIDENED:
            return cls(numpy_type, _WIDENED[name], np.dtype(_WIDENED[name]))
        if numpy_type.kind in "biuf" and numpy_type.isbuiltin == 1:
            return cls(numpy_type, name, numpy_type)
        if numpy_type.itemsize == 1:
            return cls(numpy_type, _CODED, np.dtype(_CODED))
        return cls(numpy_type, name, np.dtype(_CARRIER))


def _extended_type(name: str) -> np.dtype[Any]:
    import ml_dtypes

    scalar: type[np.generic] | None = getattr(ml_dtypes, name, None)
    if scalar is None:
        raise TypeError(f"unknown element type {name}")
    return np.dtype(scalar)


class AlignedBuffer:
    """Memory for one input: arrays are copied into it, and the virtual machine reads it there."""

    def __init__(self, spec: TensorSpec) -> None:
        self._element = ElementType.named(spec.dtype)
        self._shape: tuple[int, ...] | None = None
        self._memory: np.ndarray[Any, Any]
        self._tensor: Any = None
        self.span = range(0)

    def fill(self, array: np.ndarray[Any, Any]) -> Any:
        """Copies ``array`` (any strides) in and returns the tensor that the virtual machine takes."""
        if array.shape != self._shape:
            self._allocate(array.shape)
        self._memory[...] = array
        return self._tensor

    def _allocate(self, shape: tuple[int, ...]) -> None:
        element = self._element
        size = math.prod(shape) * element.carrier.itemsize
        memory = aligned_memory(size)
        self._memory = memory.view(element.staging).reshape(shape)
        self._tensor = tensor_over(memory, shape, element)
        self._shape = shape
        self.span = range(self._tensor.data_ptr(), self._tensor.data_ptr() + max(size, 1))


def aligned_memory(size: int) -> np.ndarray[Any, Any]:
    """``size`` bytes, which the system gives page by page when they are first written."""
    raw = np.empty(max(size, 1) + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


def end_of(place: PlacedTensor) -> int:
    """The offset of the first byte behind a tensor."""
    return place.offset + math.prod(place.shape) * ElementType.named(place.dtype).carrier.itemsize


def tensor_at(place: PlacedTensor, memory: np.ndarray[Any, Any]) -> Any:
    """The tensor that lies at ``place`` in ``memory`` (bytes, writable, aligned, one dimension)."""
    part = memory[place.offset : end_of(place)]
    return tensor_over(part, place.shape, ElementType.named(place.dtype))


def tensor_over(memory: np.ndarray[Any, Any], shape: tuple[int, ...], element: ElementType) -> Any:
    """A tensor of ``shape`` that shares ``memory`` (bytes, writable, aligned, one dimension)."""
    ffi = load_runtime()
    flat = ffi.from_dlpack(memory.view(element.carrier))
    view = ffi.get_global_func("runtime.TVMTensorCreateView")
    return view(flat, ffi.Shape(shape), element.name, 0)


class ResultReader:
    """Turns the virtual machine's results of one output into arrays."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._parts = [] if spec.kind == "tensor" else [ResultReader(part) for part in tensors_of(spec)]
        self._element = ElementType.named(spec.dtype)
        self._crosses_as_itself = self._element.carrier == self._element.numpy

    def read(self, value: Any) -> Any:
        """An array, a list for a sequence, or None for an absent optional. Shares the result's memory."""
        if self._parts:
            arrays = [part.read(tensor) for part, tensor in zip(self._parts, value, strict=True)]
            return unpacked(self._spec, arrays)
        if value is None:
            return None
        if hasattr(value, "data_ptr"):
            return self._array(value)
        return [self.read(entry) for entry in value]

    def _array(self, tensor: Any) -> np.ndarray[Any, Any]:
        if self._crosses_as_itself:
            return np.from_dlpack(tensor)
        ffi = load_runtime()
        view = ffi.get_global_func("runtime.TVMTensorCreateView")
        carried = np.from_dlpack(view(tensor, ffi.Shape(tensor.shape), self._element.carrier.name, 0))
        return carried.view(self._element.numpy)
