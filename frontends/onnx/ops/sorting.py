"""Operators that order elements."""

from __future__ import annotations

from typing import Any

from tvm import relax, te
from tvm.ir import Expr

from ..merge_sort import sorted_lines
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate


@converts("TopK")
def top_k(node: Node) -> list[Expr]:
    """The k largest (or smallest) along an axis, in order; of equal ones the first comes first."""
    rank = node.rank(0)
    axis = normalize_axis(node.integer("axis", -1), rank)
    count = node.integer("k") if node.has_attribute("k") else node.extent_list(1)[0]
    others = [place for place in range(rank) if place != axis]
    data = node.builder.bound(node.tensor(0))
    if axis != rank - 1:
        data = node.emit(relax.op.permute_dims(data, [*others, axis]))
    shape = list(node.builder.shape(data))
    lines = [node.extents.product(shape[:-1]), shape[-1]]
    flat = node.builder.reshape(data, lines)
    order = sorted_lines(node.builder, flat, lines, bool(node.integer("largest", 1)))

    def compute(x: te.Tensor, places: te.Tensor) -> list[te.Tensor]:
        target = (lines[0], count)
        indices = tabulate(target, lambda i, j: places(i, j), name="top_k_indices")
        return [tabulate(target, lambda i, j: x(i, places(i, j)), name="top_k_values"), indices]

    def restored(result: Expr) -> Expr:
        whole = node.builder.reshape(result, [*shape[:-1], count])
        if axis == rank - 1:
            return whole
        back: list[Any] = [*range(axis), rank - 1, *range(axis, rank - 1)]
        return node.emit(relax.op.permute_dims(whole, back))

    return [restored(result) for result in node.te(compute, flat, order, name="top_k")]
