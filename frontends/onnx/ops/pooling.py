"""Pooling over windows and over whole maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ..extents import Extent, as_expression
from ..node import Node
from ..precision import is_float, widened
from ..registry import converts
from ..tabulate import tabulate
from .convolution import explicit_pads


@converts("GlobalAveragePool")
def global_average_pool(node: Node) -> Expr:
    axes = list(range(2, node.rank(0)))
    return widened(node.builder, lambda x: relax.op.mean(x, axes, keepdims=True), node.tensor(0))


@converts("GlobalMaxPool")
def global_max_pool(node: Node) -> Expr:
    return relax.op.max(node.tensor(0), list(range(2, node.rank(0))), keepdims=True)


@converts("GlobalLpPool")
def global_lp_pool(node: Node) -> Expr:
    axes = list(range(2, node.rank(0)))
    return widened(node.builder, lambda x: _lp_norm(node, x, axes), node.tensor(0))


def _lp_norm(node: Node, x: Expr, axes: list[int]) -> Expr:
    p = float(node.integer("p", 2))
    dtype = node.builder.dtype(x)
    powers = node.emit(relax.op.power(node.emit(relax.op.abs(x)), node.builder.constant(p, dtype)))
    total = node.emit(relax.op.sum(powers, axes, keepdims=True))
    return relax.op.power(total, node.builder.constant(1 / p, dtype))


@dataclass(frozen=True)
class _Window:
    """A sliding window over the spatial axes.

    Attributes:
        shape: extents of the whole input.
        result: extents of the whole result.
    """

    shape: tuple[Extent, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[Extent, ...]
    after: tuple[Extent, ...]
    result: tuple[Extent, ...]

    @property
    def spatial(self) -> int:
        return len(self.kernel)

    def places(self, index: Sequence[Any], taps: Sequence[Any]) -> list[Any]:
        """Positions in the input's spatial axes that a tap of the window at ``index`` reads."""
        return [
            index[axis + 2] * self.strides[axis] + taps[axis] * self.dilations[axis] - self.before[axis]
            for axis in range(self.spatial)
        ]

    def inside(self, places: Sequence[Any]) -> Expr:
        """Whether positions lie in the input."""
        return tirx.all(
            *(
                condition
                for place, extent in zip(places, self.shape[2:], strict=True)
                for condition in (place >= 0, place < as_expression(extent))
            )
        )

    def taps(self) -> list[Any]:
        """Reduction axes over the window."""
        return [te.reduce_axis((0, size), name=f"k{axis}") for axis, size in enumerate(self.kernel)]


def _window(node: Node) -> _Window:
    shape = node.shape(0)
    kernel = node.integers("kernel_shape")
    ones = [1] * len(kernel)
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    pads = explicit_pads(node, shape[2:], kernel, strides, dilations)
    before, after = tuple(pads[: len(kernel)]), tuple(pads[len(kernel) :])
    result = tuple(
        _windows_along(
            node,
            axis,
            shape[axis + 2],
            (kernel[axis] - 1) * dilations[axis] + 1,
            strides[axis],
            before,
            after,
        )
        for axis in range(len(kernel))
    )
    return _Window(shape, kernel, strides, dilations, before, after, (*shape[:2], *result))


def _windows_along(
    node: Node,
    axis: int,
    extent: Extent,
    reach: int,
    stride: int,
    before: Sequence[Extent],
    after: Sequence[Extent],
) -> Extent:
    """How many windows fit; with ceil_mode a window may hang over, but not begin in the padding after."""
    extents = node.extents
    if node.text("auto_pad", "NOTSET").startswith("SAME"):
        return extents.ceil_divide(extent, stride)
    room = extents.simplify(extent + before[axis] + after[axis] - reach)
    if not node.integer("ceil_mode", 0):
        return extents.simplify(extents.floor_divide(room, stride) + 1)
    count = extents.simplify(extents.ceil_divide(room, stride) + 1)
    last_start = extents.simplify((count - 1) * stride)
    limit = extents.simplify(extent + before[axis])
    if isinstance(last_start, int) and isinstance(limit, int):
        return count - 1 if last_start >= limit else count
    overhang = tirx.Select(as_expression(last_start) >= as_expression(limit), _i64(1), _i64(0))
    known = extents.decide(as_expression(last_start) >= as_expression(limit))
    return count if known is False else extents.simplify(count - overhang)


def _i64(value: int) -> Expr:
    return tirx.IntImm("int64", value)


@converts("MaxPool")
def max_pool(node: Node) -> list[Expr]:
    window = _padded_to_last_window(node, _window(node))
    x = node.tensor(0)
    if _is_plain(node, window) and _fits(node, window) and not node.wants(1):
        pads = [int(pad) for pad in (*window.before, *window.after)]
        return [relax.op.nn.max_pool2d(x, list(window.kernel), list(window.strides), pads)]
    values = node.te(lambda t: _maxima(window, t), x, name="max_pool")
    return [values, _indices(node, window, x, values)] if node.wants(1) else [values]


def _fits(node: Node, window: _Window) -> bool:
    """Whether the padding says how many windows there are, without rounding up."""
    if not node.integer("ceil_mode", 0):
        return True
    if not all(isinstance(extent, int) for extent in (*window.shape[2:], *window.result[2:], *window.before)):
        return False
    sizes = zip(window.shape[2:], window.result[2:], window.before, window.after, strict=True)
    spans = [(count - 1, extent + before + after) for extent, count, before, after in sizes]
    steps = zip(spans, window.kernel, window.strides, strict=True)
    return all(bool(room == last * stride + size) for (last, room), size, stride in steps)


def _padded_to_last_window(node: Node, window: _Window) -> _Window:
    """With ceil_mode, the same windows said by padding, where all extents are known."""
    extents, results = window.shape[2:], window.result[2:]
    known = all(isinstance(extent, int) for extent in (*extents, *results, *window.before))
    if not node.integer("ceil_mode", 0) or not known or any(d != 1 for d in window.dilations):
        return window
    reach = zip(extents, results, window.before, window.kernel, window.strides, strict=True)
    after = tuple((count - 1) * stride + size - extent - pad for extent, count, pad, size, stride in reach)
    return replace(window, after=after) if min(after) >= 0 else window


def _is_plain(node: Node, window: _Window) -> bool:
    """Whether Relax's own two-dimensional pooling means the same."""
    pads = (*window.before, *window.after)
    return (
        window.spatial == 2
        and all(d == 1 for d in window.dilations)
        and all(isinstance(pad, int) for pad in pads)
        and all(b < k for b, k in zip(pads, window.kernel * 2, strict=True))
        and node.dtype(0) == "float32"
    )


def _maxima(window: _Window, x: te.Tensor) -> te.Tensor:
    taps = window.taps()
    lowest = tirx.const(-np.inf, x.dtype) if is_float(str(x.dtype)) else tirx.min_value(x.dtype)

    def element(*index: Any) -> Expr:
        places = window.places(index, taps)
        return te.max(
            tirx.if_then_else(window.inside(places), x(index[0], index[1], *places), lowest), axis=taps
        )

    return tabulate(window.result, element, name="max_pool")


def _indices(node: Node, window: _Window, x: Expr, values: Expr) -> Expr:
    """Flat position in the input of the first element of each window that equals its maximum."""
    column_major = bool(node.integer("storage_order", 0))
    extents = [as_expression(extent) for extent in window.shape]

    def flat(index: Sequence[Any], places: Sequence[Any]) -> Any:
        position = _i64(0)
        order = range(window.spatial) if not column_major else reversed(range(window.spatial))
        for axis in order:
            position = position * extents[axis + 2] + places[axis]
        plane = _i64(1)
        for extent in extents[2:]:
            plane = plane * extent
        return (index[0] * extents[1] + index[1]) * plane + position

    def compute(data: te.Tensor, best: te.Tensor) -> te.Tensor:
        taps = window.taps()

        def element(*index: Any) -> Expr:
            places = window.places(index, taps)
            is_best = tirx.if_then_else(
                window.inside(places),
                data(index[0], index[1], *places) == best(*index),
                tirx.const(False, "bool"),
            )
            return te.min(tirx.Select(is_best, flat(index, places), tirx.max_value("int64")), axis=taps)

        return tabulate(window.result, element, name="max_pool_indices")

    return node.te(compute, x, values, name="max_pool_indices")


@converts("AveragePool")
def average_pool(node: Node) -> Expr:
    window = _window(node)
    count_padding = bool(node.integer("count_include_pad", 0))
    if _is_plain(node, window) and not node.integer("ceil_mode", 0):
        pads = [int(pad) for pad in (*window.before, *window.after)]
        kernel, strides = list(window.kernel), list(window.strides)
        return relax.op.nn.avg_pool2d(node.tensor(0), kernel, strides, pads, count_include_pad=count_padding)
    return widened(
        node.builder,
        lambda x: node.te(lambda t: _averages(window, t, count_padding), x, name="average_pool"),
        node.tensor(0),
    )


def _averages(window: _Window, x: te.Tensor, count_padding: bool) -> list[te.Tensor] | te.Tensor:
    totals = _sums(window, x, lambda value: value, "average_pool_sum")

    def element(*index: Any) -> Expr:
        count = _i64(1)
        for axis in range(window.spatial):
            count = count * _taps_inside(window, index, axis, count_padding)
        return totals(*index) / count.astype(x.dtype)

    return tabulate(window.result, element, name="average_pool")


def _sums(window: _Window, x: te.Tensor, function: Any, name: str) -> te.Tensor:
    taps = window.taps()

    def element(*index: Any) -> Expr:
        places = window.places(index, taps)
        value = tirx.if_then_else(
            window.inside(places), function(x(index[0], index[1], *places)), tirx.const(0, x.dtype)
        )
        return te.sum(value, axis=taps)

    return tabulate(window.result, element, name=name)


def _taps_inside(window: _Window, index: Sequence[Any], axis: int, count_padding: bool) -> Any:
    """How many taps along an axis lie in the input, or in the padded input."""
    dilation, size = window.dilations[axis], window.kernel[axis]
    start = index[axis + 2] * window.strides[axis] - window.before[axis]
    extent = as_expression(window.shape[axis + 2])
    low = _i64(0)
    high = extent
    if count_padding:
        low, high = low - window.before[axis], extent + window.after[axis]
    if dilation == 1:
        return tirx.min(start + size, high) - tirx.max(start, low)
    first = tirx.max(tirx.floordiv(low - start + dilation - 1, _i64(dilation)), _i64(0))
    last = tirx.min(tirx.floordiv(high - 1 - start, _i64(dilation)), _i64(size - 1))
    return last - first + 1


@converts("LpPool")
def lp_pool(node: Node) -> Expr:
    window = _window(node)
    p = float(node.integer("p", 2))

    def compute(x: te.Tensor) -> te.Tensor:
        exponent = tirx.const(p, x.dtype)
        totals = _sums(window, x, lambda value: tirx.pow(tirx.abs(value), exponent), "lp_pool_sum")
        root = tirx.const(1 / p, x.dtype)
        return tabulate(window.result, lambda *i: tirx.pow(totals(*i), root), name="lp_pool")

    return widened(node.builder, lambda x: node.te(compute, x, name="lp_pool"), node.tensor(0))
