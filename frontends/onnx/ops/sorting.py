"""Operators that order elements."""

from __future__ import annotations

from typing import Any

from tvm import te, tirx
from tvm.ir import Expr

from ..extents import as_expression
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate


@converts("TopK")
def top_k(node: Node) -> list[Expr]:
    """The k largest (or smallest) along an axis, in order; of equal ones the first comes first."""
    shape = list(node.shape(0))
    axis = normalize_axis(node.integer("axis", -1), len(shape))
    count = node.integer("k") if node.has_attribute("k") else node.extent_list(1)[0]
    target = list(shape)
    target[axis] = count
    largest = bool(node.integer("largest", 1))
    ranks = _ranks(node, node.tensor(0), axis, largest)

    def compute(x: te.Tensor, rank: te.Tensor) -> list[te.Tensor]:
        candidate = te.reduce_axis((0, as_expression(shape[axis])), name="candidate")

        def position(*i: Any) -> Expr:
            place = [*i[:axis], candidate, *i[axis + 1 :]]
            return te.max(
                tirx.Select(rank(*place) == i[axis], candidate, tirx.IntImm("int64", 0)), axis=candidate
            )

        indices = tabulate(target, position, name="top_k_indices")
        values = tabulate(target, lambda *i: x(*i[:axis], indices(*i), *i[axis + 1 :]), name="top_k_values")
        return [values, indices]

    return list(node.te(compute, node.tensor(0), ranks, name="top_k"))


def _ranks(node: Node, tensor: Expr, axis: int, largest: bool) -> Expr:
    """How many elements along the axis come before each one."""
    shape = node.builder.shape(tensor)

    def compute(x: te.Tensor) -> te.Tensor:
        other = te.reduce_axis((0, as_expression(shape[axis])), name="other")

        def element(*i: Any) -> Expr:
            mine, theirs = x(*i), x(*i[:axis], other, *i[axis + 1 :])
            ahead = theirs > mine if largest else theirs < mine
            before = tirx.any(ahead, tirx.all(theirs == mine, other < i[axis]))
            return te.sum(tirx.Select(before, tirx.IntImm("int64", 1), tirx.IntImm("int64", 0)), axis=other)

        return tabulate(shape, element, name="ranks")

    return node.te(compute, tensor, name="ranks")
