"""Tensor expressions over extents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr

from .extents import Extent, as_expression


def tabulate(shape: Sequence[Extent], element: Callable[..., Any], name: str) -> te.Tensor:
    """The tensor whose elements ``element(*index)`` gives; every index is an int64."""
    return te.compute(tuple(as_expression(extent) for extent in shape), element, name=name)


def pick(index: Any, values: Sequence[Any]) -> Expr:
    """values[index] for a run-time index."""
    chosen = values[-1]
    for position in range(len(values) - 2, -1, -1):
        chosen = tirx.Select(index == position, values[position], chosen)
    return chosen
