"""Checking a caller's arrays against the signature, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ShapeError
from .signature import TensorSpec
from .structures import is_optional, is_sequence, packed
from .tensors import ElementType


class InputCheck:
    """The inputs that an artifact takes, ready to be compared with what a caller passes."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = tuple(specs)
        self._names = frozenset(spec.name for spec in specs)
        self._dtypes = tuple(ElementType.named(spec.dtype).numpy for spec in specs)
        self._exact = [
            (spec.name, dtype, spec.shape) for spec, dtype in zip(specs, self._dtypes, strict=True)
        ]
        self._only_tensors = all(spec.kind == "tensor" for spec in specs)

    def arrays(self, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        """The arrays in the artifact's order; a sequence or an optional crosses as several.

        Raises:
            ShapeError: a name is missing or unknown, or a value is no NumPy array (no list of them, where a
                sequence is expected), has another dtype (it is
                refused, never cast), rank or extent, or one symbolic dimension has two extents.
        """
        return self._arrays_as_specified(inputs) or self._checked_arrays(inputs)

    def _arrays_as_specified(self, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]] | None:
        """The arrays where a glance shows that they fit: a run of a small model takes not much longer."""
        if type(inputs) is not dict or len(inputs) != len(self._exact) or not self._only_tensors:
            return None
        arrays = []
        for name, dtype, shape in self._exact:
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return None
            arrays.append(array)
        return arrays

    def _checked_arrays(self, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
        if not isinstance(inputs, Mapping):
            raise ShapeError(f"expected a dict of arrays by name, got {type(inputs).__name__}")
        if inputs.keys() != self._names:
            raise ShapeError(self._wrong_names(inputs))
        extents: dict[str, tuple[int, str]] = {}
        arrays: list[np.ndarray[Any, Any]] = []
        for spec, dtype in zip(self._specs, self._dtypes, strict=True):
            value = inputs[spec.name]
            if spec.kind == "tensor":
                arrays.append(_array(spec, dtype, value, extents))
            else:
                arrays += packed(spec, _structure(spec, dtype, value), dtype)
        return arrays

    def _wrong_names(self, inputs: Mapping[str, Any]) -> str:
        parts = []
        if missing := sorted(self._names - inputs.keys()):
            parts.append(f"missing {', '.join(map(repr, missing))}")
        if unknown := sorted(str(name) for name in inputs if name not in self._names):
            parts.append(f"unknown {', '.join(map(repr, unknown))}")
        expected = ", ".join(f"{spec.name!r} {describe(spec)}" for spec in self._specs) or "none"
        return f"wrong inputs: {'; '.join(parts)}; the model takes {expected}"


def _array(
    spec: TensorSpec, dtype: np.dtype[Any], value: object, extents: dict[str, tuple[int, str]]
) -> np.ndarray[Any, Any]:
    if not isinstance(value, np.ndarray | np.generic):
        raise ShapeError(
            f"input {spec.name!r}: expected a NumPy array, {describe(spec)}, "
            f"got {type(value).__name__}; convert it with numpy.asarray"
        )
    array = np.asarray(value)
    if array.dtype != dtype:
        raise ShapeError(_mismatch(spec, array, "dtypes are not converted; convert it with astype"))
    _check_shape(spec, array, extents)
    return array


def _structure(
    spec: TensorSpec, dtype: np.dtype[Any], value: object
) -> np.ndarray[Any, Any] | list[np.ndarray[Any, Any]] | None:
    if value is None and is_optional(spec):
        return None
    if not is_sequence(spec):
        return _array(spec, dtype, value, {})
    if not isinstance(value, list | tuple):
        raise ShapeError(
            f"input {spec.name!r}: expected a list of NumPy arrays, each {describe(spec)}, "
            f"got {type(value).__name__}"
        )
    # Symbolic extents may differ from entry to entry.
    return [_array(spec, dtype, entry, {}) for entry in value]


def describe(spec: TensorSpec) -> str:
    """A spec in one word, such as ``float32[batch,3,224,224]``."""
    return f"{spec.dtype}[{','.join(map(str, spec.shape))}]"


def _check_shape(spec: TensorSpec, array: np.ndarray[Any, Any], extents: dict[str, tuple[int, str]]) -> None:
    """Compares shapes and records in ``extents`` what each symbol stands for, and which input said so."""
    if array.ndim != len(spec.shape):
        raise ShapeError(_mismatch(spec, array, f"the rank must be {len(spec.shape)}"))
    for axis, (expected, got) in enumerate(zip(spec.shape, array.shape, strict=True)):
        if expected == got:
            continue
        if isinstance(expected, int):
            raise ShapeError(_mismatch(spec, array, f"axis {axis} must be {expected}"))
        first, source = extents.setdefault(expected, (got, spec.name))
        if first != got:
            reason = f"axis {axis} must be {first}, because {expected} is {first} in input {source!r}"
            raise ShapeError(_mismatch(spec, array, reason))


def _mismatch(spec: TensorSpec, array: np.ndarray[Any, Any], reason: str) -> str:
    got = f"{array.dtype.name if array.dtype.isnative else array.dtype}[{','.join(map(str, array.shape))}]"
    return f"input {spec.name!r}: expected {describe(spec)}, got {got}; {reason}"
