"""Operators that pick elements by position: slices, gathers, scatters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import pick, tabulate

_INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class _Bounds:
    """What a Slice asks for, one entry an axis."""

    starts: list[Extent]
    ends: list[Extent]
    axes: list[int]
    steps: list[int]


@converts("Slice")
def slice_by_attributes(node: Node) -> Expr:
    starts, ends = list(node.integers("starts")), list(node.integers("ends"))
    axes = list(node.integers("axes", range(len(starts))))
    return _slice(node, _Bounds(list(starts), list(ends), axes, [1] * len(starts)))


@converts("Slice", since=10)
def slice_by_inputs(node: Node) -> Expr:
    known = [not node.has(index) or node.is_shape_like(index) for index in (1, 2, 3, 4)]
    if not all(known):
        return _slice_at_run_time(node)
    starts, ends = node.integer_list(1), node.integer_list(2)
    steps = [int(step) for step in node.constant(4)] if node.has(4) else [1] * len(starts)
    axes = [int(axis) for axis in node.constant(3)] if node.has(3) else list(range(len(starts)))
    return _slice(node, _Bounds(starts, ends, axes, steps))


def _slice(node: Node, bounds: _Bounds) -> Expr:
    shape = list(node.shape(0))
    target = list(shape)
    begin: list[Extent] = [0] * len(shape)
    step = [1] * len(shape)
    for start, end, axis, stride in zip(bounds.starts, bounds.ends, bounds.axes, bounds.steps, strict=True):
        place = normalize_axis(axis, len(shape))
        if stride == 0:
            raise InvalidModelError("a step of 0 is not allowed")
        begin[place], target[place] = _along(node, shape[place], start, end, stride)
        step[place] = stride
    return _strided(node, node.tensor(0), begin, step, target)


def slice_of(node: Node, tensor: Expr, axis: int, start: Extent, size: Extent) -> Expr:
    """``size`` entries of a tensor along an axis, from ``start`` on; they must exist."""
    shape = list(node.builder.shape(tensor))
    begin: list[Extent] = [0] * len(shape)
    begin[axis] = start
    target = [*shape[:axis], size, *shape[axis + 1 :]]
    return node.builder.bound(_strided(node, tensor, begin, [1] * len(shape), target))


def _along(node: Node, extent: Extent, start: Extent, end: Extent, stride: int) -> tuple[Extent, Extent]:
    """(first position, number of elements) along an axis, with ONNX's clamping."""
    extents = node.extents
    low, high = (0, extent) if stride > 0 else (-1, extents.simplify(extent - 1))
    first = extents.clamp(_position(node, start, extent), 0, high if stride < 0 else extent)
    last = extents.clamp(_position(node, end, extent), low, high)
    distance = extents.simplify(last - first if stride > 0 else first - last)
    count = extents.ceil_divide(distance, abs(stride))
    return first, extents.maximum(count, 0)


def _position(node: Node, position: Extent, extent: Extent) -> Extent:
    """A position counted from the front; the sign of a symbolic one must be evident or is looked up."""
    if isinstance(position, int):
        if position >= _INT64_MAX >> 1 or position < -(_INT64_MAX >> 1):
            return 1 << 40 if position > 0 else -(1 << 40)
        return position if position >= 0 else node.extents.simplify(extent + position)
    if node.extents.at_least(position, 0):
        return position
    negated = node.extents.simplify(-1 * position)
    if node.extents.at_least(negated, 1):
        return node.extents.simplify(extent + position)
    zero = tirx.IntImm("int64", 0)
    return tirx.Select(position < zero, position + as_expression(extent), position)


def _strided(
    node: Node, tensor: Expr, begin: Sequence[Extent], step: Sequence[int], target: Sequence[Extent]
) -> Expr:
    shape = node.builder.shape(tensor)
    whole = [
        b == 0 and s == 1 and node.extents.equal(t, e)
        for b, s, t, e in zip(map(_plain, begin), step, target, shape, strict=True)
    ]
    if all(whole):
        return tensor
    known = [
        isinstance(b, int) and isinstance(t, int) and isinstance(e, int)
        for b, t, e, w in zip(begin, target, shape, whole, strict=True)
        if not w
    ]
    positive = all(s > 0 for s in step)
    if all(known) and positive:
        axes = [axis for axis, w in enumerate(whole) if not w]
        ends = [int(begin[a]) + int(target[a]) * step[a] for a in axes]
        ends = [min(end, int(shape[axis])) for end, axis in zip(ends, axes, strict=True)]
        return relax.op.strided_slice(
            tensor, axes, [int(begin[a]) for a in axes], ends, [step[a] for a in axes]
        )

    def compute(x: te.Tensor) -> te.Tensor:
        return tabulate(
            target,
            lambda *i: x(*(place * s + b for place, s, b in zip(i, step, begin, strict=True))),
            name="slice",
        )

    return node.te(compute, tensor, name="slice")


def _plain(value: Extent) -> int:
    return value if isinstance(value, int) else -1


def _slice_at_run_time(node: Node) -> Expr:
    """What is data decides only extents: a kernel finds where slices begin, and how long they are."""
    shape, named = node.shape(0), _named_axes(node)
    axes = list(range(len(shape))) if named is None else named
    if not axes:
        return node.tensor(0)
    inputs = [index for index in (1, 2, 3, 4) if node.has(index)]
    values = [node.builder.cast(node.tensor(index), "int64") for index in inputs]

    def find(*given: te.Tensor) -> list[te.Tensor]:
        bounds = _RunTimeBounds(dict(zip(inputs, given, strict=True)), named, len(shape))
        found = [_clamped_bounds(shape[axis], *bounds.along(axis)) for axis in axes]
        return [
            tabulate((len(axes),), _picked([part[k] for part in found]), name=name)
            for k, name in enumerate(("slice_begin", "slice_step", "slice_count"))
        ]

    begins, steps, counts = node.te(find, *values, name="slice_bounds")
    target = list(shape)
    for axis, extent in zip(axes, node.builder.read_extents(counts, node.outputs[0]), strict=True):
        target[axis] = extent
    forward = not node.has(4)

    def compute(x: te.Tensor, begin: te.Tensor, step: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            place = list(index)
            for k, axis in enumerate(axes):
                place[axis] = begin(k) + (index[axis] if forward else index[axis] * step(k))
            return x(*place)

        return tabulate(target, element, name="slice")

    return node.te(compute, node.tensor(0), begins, steps, name="slice")


def _picked(values: list[Any]) -> Callable[[Any], Expr]:
    return lambda index: pick(index, values)


def _named_axes(node: Node) -> list[int] | None:
    """The axes that a Slice names; None where only the run knows."""
    rank, count = node.rank(0), node.shape(1)[0]
    if not isinstance(count, int):
        raise node.static_required(1)
    if not node.has(3):
        return list(range(count))
    if not node.is_shape_like(3):
        return None
    return [normalize_axis(int(axis), rank) for axis in node.constant(3)]


@dataclass(frozen=True)
class _RunTimeBounds:
    """The inputs of a Slice inside a kernel.

    Attributes:
        inputs: the operator's input number -> tensor.
        axes: the axes that the entries are about; None where input 3 says it.
        rank: of the data.
    """

    inputs: dict[int, te.Tensor]
    axes: list[int] | None
    rank: int

    def along(self, axis: int) -> tuple[Any, Any, Any]:
        """(start, end, step) of an axis; those of an axis that no entry names leave it whole."""
        if self.axes is not None:
            return self._entry(self.axes.index(axis))
        bounds = tuple(tirx.IntImm("int64", value) for value in (0, _INT64_MAX, 1))
        named = self.inputs[3]
        for k in range(int(named.shape[0])):
            here = tirx.floormod(named(k), tirx.IntImm("int64", self.rank)) == axis
            bounds = tuple(
                tirx.Select(here, new, old) for new, old in zip(self._entry(k), bounds, strict=True)
            )
        return bounds[0], bounds[1], bounds[2]

    def _entry(self, k: int) -> tuple[Any, Any, Any]:
        step = self.inputs[4](k) if 4 in self.inputs else tirx.IntImm("int64", 1)
        return self.inputs[1](k), self.inputs[2](k), step


def _clamped_bounds(extent: Extent, start: Any, end: Any, step: Any) -> tuple[Any, Any, Any]:
    """(first position, step, number of elements), as Slice defines them, of run-time bounds."""
    size, zero, one = as_expression(extent), tirx.IntImm("int64", 0), tirx.IntImm("int64", 1)

    def clamp(position: Any, low: int, high: Any) -> Any:
        # Far-away bounds (INT64_MIN, INT64_MAX) are brought near first, so that nothing overflows.
        near = tirx.max(tirx.min(position, size), -size - 1)
        counted = tirx.Select(near < zero, near + size, near)
        return tirx.max(tirx.min(counted, high), tirx.IntImm("int64", low))

    # No step is longer than the axis, as far as the result can tell.
    step = tirx.max(tirx.min(step, size + 1), -size - 1)
    forward = step > zero
    first = tirx.Select(forward, clamp(start, 0, size), clamp(start, 0, size - 1))
    last = tirx.Select(forward, clamp(end, 0, size), clamp(end, -1, size - 1))
    distance, stride = tirx.Select(forward, last - first, first - last), tirx.max(tirx.abs(step), one)
    return first, step, tirx.max(tirx.floordiv(distance + stride - 1, stride), zero)


@converts("Gather")
def gather(node: Node) -> Expr:
    """Entries along an axis; negative positions count from the end."""
    x, indices = node.tensor(0), node.value(1)
    axis = node.axis("axis", 0, node.rank(0))
    extent = node.shape(0)[axis]
    if isinstance(indices, np.ndarray) and isinstance(extent, int):
        positions = np.where(indices < 0, indices + extent, indices)
        if positions.size and (positions.min() < 0 or positions.max() >= extent):
            raise InvalidModelError(f"an index is outside of the axis's extent {extent}")
        if positions.ndim == 0:
            return _entry(node, x, axis, int(positions))
    rank_of_indices = node.rank(1)
    shape = node.shape(0)
    target = (*shape[:axis], *node.shape(1), *shape[axis + 1 :])

    def compute(data: te.Tensor, positions: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            chosen = inside(positions(*i[axis : axis + rank_of_indices]), extent)
            return data(*i[:axis], chosen, *i[axis + rank_of_indices :])

        return tabulate(target, element, name="gather")

    return node.te(compute, x, node.tensor(1), name="gather")


def _entry(node: Node, x: Expr, axis: int, position: int) -> Expr:
    """One entry along an axis, which disappears."""
    shape = node.builder.shape(x)
    part = node.emit(relax.op.strided_slice(x, [axis], [position], [position + 1]))
    return node.builder.reshape(part, [*shape[:axis], *shape[axis + 1 :]])


def wrapped(position: Any, extent: Extent) -> Expr:
    """A run-time position counted from the front."""
    index = position.astype("int64")
    return tirx.Select(index < tirx.IntImm("int64", 0), index + as_expression(extent), index)


def inside(position: Any, extent: Extent) -> Expr:
    """A run-time position counted from the front; one that does not exist becomes the nearest that does."""
    last = as_expression(extent) - tirx.IntImm("int64", 1)
    return tirx.max(tirx.min(wrapped(position, extent), last), tirx.IntImm("int64", 0))


@converts("GatherElements")
def gather_elements(node: Node) -> Expr:
    axis = node.axis("axis", 0, node.rank(0))
    extent = node.shape(0)[axis]
    target = node.shape(1)

    def compute(data: te.Tensor, positions: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            return data(*i[:axis], inside(positions(*i), extent), *i[axis + 1 :])

        return tabulate(target, element, name="gather_elements")

    return node.te(compute, node.tensor(0), node.tensor(1), name="gather_elements")


@converts("GatherND")
def gather_nd(node: Node) -> Expr:
    shape, index_shape = node.shape(0), node.shape(1)
    batch = node.integer("batch_dims", 0)
    depth = index_shape[-1]
    if not isinstance(depth, int):
        raise InvalidModelError("the last extent of the indices decides a rank; bind it with shapes")
    outer = len(index_shape) - 1
    target = (*index_shape[:-1], *shape[batch + depth :])

    def compute(data: te.Tensor, positions: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            chosen = [inside(positions(*i[:outer], k), shape[batch + k]) for k in range(depth)]
            return data(*i[:batch], *chosen, *i[outer:])

        return tabulate(target, element, name="gather_nd")

    return node.te(compute, node.tensor(0), node.tensor(1), name="gather_nd")


@converts("OneHot")
def one_hot(node: Node) -> Expr:
    depth = node.extent_list(1)[0]
    indices, values = node.tensor(0), node.tensor(2)
    rank = node.rank(0)
    axis = normalize_axis(node.integer("axis", -1), rank + 1)
    shape = node.shape(0)
    target = (*shape[:axis], depth, *shape[axis:])

    def compute(positions: te.Tensor, off_on: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            position = wrapped(positions(*i[:axis], *i[axis + 1 :]), depth)
            return tirx.Select(position == i[axis], off_on(1), off_on(0))

        return tabulate(target, element, name="one_hot")

    return node.te(compute, indices, values, name="one_hot")


@converts("Trilu")
def triangle(node: Node) -> Expr:
    upper = bool(node.integer("upper", 1))
    shape, dtype = node.shape(0), node.dtype(0)
    offset = [node.builder.reshape(node.tensor(1), ())] if node.has(1) else []

    def compute(x: te.Tensor, *k: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            diagonal = i[-1] - i[-2] - (k[0]() if k else tirx.IntImm("int64", 0))
            keep = diagonal >= 0 if upper else diagonal <= 0
            return tirx.Select(keep, x(*i), tirx.const(0, dtype))

        return tabulate(shape, element, name="triangle")

    return node.te(compute, node.tensor(0), *offset, name="triangle")


@converts("ReverseSequence")
def reverse_sequence(node: Node) -> Expr:
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    shape = node.shape(0)

    def compute(x: te.Tensor, lengths: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            length = lengths(i[batch]).astype("int64")
            place = list(i)
            place[time] = tirx.Select(i[time] < length, length - 1 - i[time], i[time])
            return x(*place)

        return tabulate(shape, element, name="reverse_sequence")

    return node.te(compute, node.tensor(0), node.tensor(1), name="reverse_sequence")
