"""How sequences and optionals cross into compiled code and back: as tensors.

A sequence is two: the elements of all its entries one after another, and the entries' shapes, [count, rank]
in int64. An optional is a flag that says whether it is there, and the value, which is arbitrary if it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .signature import TensorSpec

Array = np.ndarray[Any, Any]


def is_optional(spec: TensorSpec) -> bool:
    """Whether None may stand for the value."""
    return spec.kind.startswith("optional")


def is_sequence(spec: TensorSpec) -> bool:
    """Whether a value is a list of arrays."""
    return spec.kind.endswith("sequence")


def tensors_of(spec: TensorSpec) -> tuple[TensorSpec, ...]:
    """The tensors as which a value crosses, in order."""
    name = spec.name
    flag = (TensorSpec(f"{name}.present", (), "bool"),) if is_optional(spec) else ()
    if not is_sequence(spec):
        return (*flag, TensorSpec(name, spec.shape, spec.dtype))
    elements = TensorSpec(f"{name}.elements", (f"{name}.total",), spec.dtype)
    return (*flag, elements, TensorSpec(f"{name}.shapes", (f"{name}.count", len(spec.shape)), "int64"))


def packed(spec: TensorSpec, value: Array | list[Array] | None, dtype: np.dtype[Any]) -> list[Array]:
    """A checked value as the arrays of ``tensors_of``."""
    if value is None:
        return [np.array(False), *_placeholder(spec, dtype)]
    flag = [np.array(True)] if is_optional(spec) else []
    return [*flag, *(_joined(value, len(spec.shape), dtype) if isinstance(value, list) else [value])]


def _placeholder(spec: TensorSpec, dtype: np.dtype[Any]) -> list[Array]:
    """Stands for a value that is absent; open extents are 1."""
    if is_sequence(spec):
        return _joined([], len(spec.shape), dtype)
    return [np.zeros([extent if isinstance(extent, int) else 1 for extent in spec.shape], dtype)]


def _joined(entries: list[Array], rank: int, dtype: np.dtype[Any]) -> list[Array]:
    elements = [entry.reshape(-1) for entry in entries]
    shapes = np.array([entry.shape for entry in entries], np.int64).reshape(len(entries), rank)
    return [np.concatenate(elements) if elements else np.zeros(0, dtype), shapes]


def unpacked(spec: TensorSpec, arrays: Sequence[Array]) -> Array | list[Array] | None:
    """The value that the arrays of ``tensors_of`` stand for."""
    if is_optional(spec):
        if not arrays[0]:
            return None
        arrays = arrays[1:]
    if not is_sequence(spec):
        return arrays[0]
    elements, shapes = arrays
    ends = np.cumsum(np.prod(shapes, axis=1, dtype=np.int64))
    parts = np.split(elements, ends[:-1])
    return [part.reshape(shape).copy() for part, shape in zip(parts, shapes, strict=False)]
