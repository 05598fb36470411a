"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate
from ..values import Array


@converts("Pad")
def pad(node: Node) -> Expr:
    before, after = _amounts(node)
    mode = node.text("mode", "constant")
    if mode == "constant":
        if _needs_kernel_fill(node):
            return _pad_with_tensor(node, before, after)
        return pad_constant(node, node.tensor(0), before, after, _fill(node))
    if mode not in _SOURCES:
        raise InvalidModelError(f"padding mode '{mode}' does not exist")
    return _pad_from_inside(node, before, after, mode)


def _amounts(node: Node) -> tuple[list[Extent], list[Extent]]:
    rank = node.rank(0)
    if node.has(3) and not node.is_shape_like(3):
        pads = _amounts_read(node, _spread(node, rank), 2 * rank)
        return pads[:rank], pads[rank:]
    pads = list(node.integers("pads")) if node.has_attribute("pads") else _given(node)
    axes = (
        [normalize_axis(int(axis), rank) for axis in node.constant(3)] if node.has(3) else list(range(rank))
    )
    if len(pads) != 2 * len(axes):
        raise InvalidModelError(f"{len(pads)} padding amounts do not fit {len(axes)} axes")
    before: list[Extent] = [0] * rank
    after: list[Extent] = [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = pads[position], pads[position + len(axes)]
    return before, after


def _given(node: Node) -> list[Extent]:
    """The amounts in the second input. Data becomes differences of dimensions, each at least zero."""
    if node.is_shape_like(1):
        return node.integer_list(1)
    count = node.shape(1)[0]
    if not isinstance(count, int):
        raise node.static_required(1)
    return _amounts_read(node, node.builder.cast(node.tensor(1), "int64"), count)


def _spread(node: Node, rank: int) -> Expr:
    """The amounts before and after every axis, of a node whose axes are data."""
    count = node.shape(3)[0]
    if not isinstance(count, int):
        raise node.static_required(3)
    amounts, axes = (node.builder.cast(node.tensor(index), "int64") for index in (1, 3))

    def compute(amount: te.Tensor, axis: te.Tensor) -> te.Tensor:
        def element(i: Any) -> Expr:
            total: Expr = tirx.IntImm("int64", 0)
            for k in range(count):
                place = tirx.floormod(axis(k), tirx.IntImm("int64", rank))
                total = tirx.Select(i == place, amount(k), total)
                total = tirx.Select(i == place + rank, amount(k + count), total)
            return total

        return tabulate((2 * rank,), element, name="pads")

    return node.te(compute, amounts, axes, name="pads")


def _amounts_read(node: Node, amounts: Expr, count: int) -> list[Extent]:
    zero = tirx.IntImm("int64", 0)

    def parts(amount: te.Tensor) -> list[te.Tensor]:
        added = tabulate((count,), lambda i: tirx.max(amount(i), zero), name="added")
        return [added, tabulate((count,), lambda i: tirx.max(-amount(i), zero), name="removed")]

    added, removed = node.te(parts, amounts, name="pad_amounts")
    name = node.outputs[0] or "padded"
    pairs = zip(
        node.builder.read_extents(added, f"{name}_added"),
        node.builder.read_extents(removed, f"{name}_removed"),
        strict=True,
    )
    return [node.extents.simplify(more - less) for more, less in pairs]


def _needs_kernel_fill(node: Node) -> bool:
    return node.has(2) and not isinstance(node.value(2), np.ndarray)


def _fill(node: Node) -> Array:
    dtype = node.dtype(0)
    if node.has(2):
        return node.constant(2).reshape(())
    return np.asarray(node.number("value", 0.0)).astype(dtype)


def _padded_shape(
    node: Node, shape: Sequence[Extent], before: Sequence[Extent], after: Sequence[Extent]
) -> Any:
    return tuple(node.extents.simplify(e + b + a) for e, b, a in zip(shape, before, after, strict=True))


def pad_constant(node: Node, x: Expr, before: Sequence[Extent], after: Sequence[Extent], fill: Array) -> Expr:
    """The tensor with a border of one value; negative amounts cut."""
    value = tirx.const(fill.item(), node.builder.dtype(x))
    return _pad_where_inside(node, [x], before, after, lambda _: value)


def _pad_with_tensor(node: Node, before: Sequence[Extent], after: Sequence[Extent]) -> Expr:
    fill = node.builder.reshape(node.tensor(2), ())
    return _pad_where_inside(node, [node.tensor(0), fill], before, after, lambda tensors: tensors[1]())


def _pad_where_inside(
    node: Node, tensors: list[Expr], before: Sequence[Extent], after: Sequence[Extent], fill: Any
) -> Expr:
    shape = node.builder.shape(tensors[0])
    target = _padded_shape(node, shape, before, after)
    untouched = [_is_zero(b) and _is_zero(a) for b, a in zip(before, after, strict=True)]
    if all(untouched):
        return tensors[0]

    def compute(*operands: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            source = [i - b for i, b in zip(index, before, strict=True)]
            inside = tirx.const(True, "bool")
            for place, extent, whole in zip(source, shape, untouched, strict=True):
                if not whole:
                    inside = tirx.all(inside, place >= 0, place < as_expression(extent))
            return tirx.if_then_else(inside, operands[0](*source), fill(operands))

        return tabulate(target, element, name="pad")

    return node.te(compute, *tensors, name="pad")


def _is_zero(amount: Extent) -> bool:
    return isinstance(amount, int) and amount == 0


def _reflect(place: Any, extent: Any) -> Any:
    """Mirrors at the first and the last element, as often as needed."""
    period = tirx.max(as_expression(2 * (extent - 1)), tirx.IntImm("int64", 1))
    inside = tirx.floormod(place, period)
    return tirx.min(inside, period - inside)


def _edge(place: Any, extent: Any) -> Any:
    return tirx.max(tirx.min(place, as_expression(extent - 1)), tirx.IntImm("int64", 0))


def _wrap(place: Any, extent: Any) -> Any:
    return tirx.floormod(place, as_expression(extent))


_SOURCES = {"reflect": _reflect, "edge": _edge, "wrap": _wrap}


def _pad_from_inside(node: Node, before: list[Extent], after: list[Extent], mode: str) -> Expr:
    x, shape = node.tensor(0), node.shape(0)
    source = _SOURCES[mode]

    def compute(operand: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            places = [
                i if _is_zero(b) and _is_zero(a) else source(i - b, e)
                for i, b, a, e in zip(index, before, after, shape, strict=True)
            ]
            return operand(*places)

        return tabulate(_padded_shape(node, shape, before, after), element, name=f"pad_{mode}")

    return node.te(compute, x, name=f"pad_{mode}")


def pad_and_dilate(
    node: Node, x: Expr, before: Sequence[int], after: Sequence[int], strides: Sequence[int]
) -> Expr:
    """Puts ``stride - 1`` zeros between neighbours, then a border of zeros (negative: cuts) around."""
    shape = node.builder.shape(x)
    spread = [node.extents.simplify((e - 1) * s + 1) for e, s in zip(shape, strides, strict=True)]
    target = _padded_shape(node, spread, before, after)
    dtype = node.builder.dtype(x)

    def compute(operand: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            inside = tirx.const(True, "bool")
            places = []
            for i, b, e, s in zip(index, before, shape, strides, strict=True):
                place = i - b
                inside = tirx.all(inside, place >= 0, place < as_expression(e) * s)
                if s > 1:
                    inside = tirx.all(inside, tirx.floormod(place, s) == 0)
                places.append(tirx.floordiv(place, s) if s > 1 else place)
            return tirx.if_then_else(inside, operand(*places), tirx.const(0, dtype))

        return tabulate(target, element, name="dilate")

    return node.te(compute, x, name="dilate")


__all__ = ["pad_and_dilate", "pad_constant"]
