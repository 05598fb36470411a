"""Operators that read a picture between its pixels: by a grid, by regions, by a deformed convolution."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..loops import loop, loop_kernel
from ..node import Node
from ..precision import widened
from ..registry import converts
from ..tabulate import tabulate
from .convolution import explicit_pads
from .matmul import product

Tap = tuple[Any, Any]
"""A position and its weight."""


@converts("GridSample")
def grid_sample(node: Node) -> Expr:
    """Elements of the input at the positions of the grid, whose corners are -1 and 1."""
    shape, spatial = node.shape(0), node.rank(0) - 2
    grid_shape = node.shape(1)
    target = (*shape[:2], *grid_shape[1:-1])
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(
        node.text("mode", "linear"), node.text("mode", "linear")
    )
    aligned, padding = bool(node.integer("align_corners", 0)), node.text("padding_mode", "zeros")

    def compute(x: te.Tensor, grid: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            taps = []
            for axis in range(spatial):
                extent = as_expression(shape[axis + 2])
                place = grid(i[0], *i[2:], spatial - 1 - axis)
                position = _denormalized(place, extent, aligned)
                if padding != "zeros" and mode != "cubic":
                    position = _bounded(position, extent, padding, aligned)
                taps.append(_taps(position, mode))
            return _weighted(x, i[:2], taps, shape[2:], _outside(padding, aligned))

        return tabulate(target, element, name="grid_sample")

    return widened(
        node.builder,
        lambda x, grid: node.te(
            compute, x, node.builder.cast(grid, node.builder.dtype(x)), name="grid_sample"
        ),
        node.tensor(0),
        node.tensor(1),
    )


def _c(value: float, like: Any) -> Expr:
    return tirx.const(value, like.ty.dtype)


def _denormalized(place: Any, extent: Expr, aligned: bool) -> Expr:
    size = extent.astype(place.ty.dtype)
    one, two = _c(1, place), _c(2, place)
    if aligned:
        return (place + one) / two * (size - one)
    return ((place + one) * size - one) / two


def _bounded(position: Any, extent: Expr, padding: str, aligned: bool) -> Expr:
    """A real position brought into the picture."""
    last = extent.astype(position.ty.dtype) - _c(1, position)
    if padding == "reflection":
        position = _reflected(position, last, aligned)
    return tirx.max(_c(0, position), tirx.min(position, last))


def _reflected(position: Any, last: Any, aligned: bool) -> Expr:
    """Mirrored at the centres of the border pixels, or at their outer edges."""
    low = _c(0 if aligned else -0.5, position)
    span = last if aligned else last + _c(1, position)
    safe = tirx.max(span, _c(1e-6, position))
    distance = tirx.abs(position - low)
    turns = tirx.floor(distance / safe)
    rest = distance - turns * safe
    even = tirx.floormod(turns.astype("int64"), 2) == 0
    return tirx.Select(even, rest + low, span - rest + low)


def _taps(position: Any, mode: str) -> list[Tap]:
    """Neighbours along an axis with their weights."""
    if mode == "nearest":
        return [(tirx.nearbyint(position).astype("int64"), _c(1, position))]
    below = tirx.floor(position)
    rest, base, one = position - below, below.astype("int64"), _c(1, position)
    if mode == "linear":
        return [(base, one - rest), (base + 1, rest)]
    return [(base + k - 1, _cubic(rest, k)) for k in range(4)]


def _cubic(rest: Any, k: int) -> Expr:
    """Keys' cubic convolution weights with a = -0.75."""
    a = _c(-0.75, rest)

    def c(value: float) -> Expr:
        return _c(value, rest)

    def near(x: Any) -> Expr:
        return ((a + c(2)) * x - (a + c(3))) * x * x + c(1)

    def far(x: Any) -> Expr:
        return ((a * x - c(5) * a) * x + c(8) * a) * x - c(4) * a

    return [far(rest + c(1)), near(rest), near(c(1) - rest), far(c(2) - rest)][k]


Outside = Callable[[Any, Any], tuple[Any, Any]]


def _outside(padding: str, aligned: bool) -> Outside:
    """(position inside, whether it counts) for an integer position."""

    def resolve(place: Any, extent: Expr) -> tuple[Any, Any]:
        zero, last = tirx.IntImm("int64", 0), extent - 1
        if padding == "zeros":
            return tirx.max(zero, tirx.min(place, last)), tirx.all(place >= zero, place < extent)
        if padding == "reflection":
            real = _reflected(place.astype("float32"), last.astype("float32"), aligned)
            place = tirx.nearbyint(real).astype("int64")
        return tirx.max(zero, tirx.min(place, last)), tirx.const(True, "bool")

    return resolve


def _weighted(
    x: te.Tensor, front: Sequence[Any], taps: Sequence[list[Tap]], shape: Sequence[Extent], outside: Outside
) -> Expr:
    """The sum over all combinations of neighbours."""
    total: Any = None
    for combination in itertools.product(*taps):
        weight: Any = None
        places, valid = [], tirx.const(True, "bool")
        for (place, share), extent in zip(combination, shape, strict=True):
            inside, counts = outside(place, as_expression(extent))
            places.append(inside)
            valid = tirx.all(valid, counts)
            weight = share if weight is None else weight * share
        value = x(*front, *places)
        term = tirx.Select(valid, value * weight, tirx.const(0, x.dtype))
        total = term if total is None else total + term
    return total


@converts("AffineGrid")
def affine_grid(node: Node) -> Expr:
    """Where an affine map sends the positions of a picture: [batch, (depth,) height, width, 2 or 3]."""
    size = node.extent_list(1)
    spatial = size[2:]
    aligned = bool(node.integer("align_corners", 0))
    dtype = node.dtype(0)

    def coordinate(place: Any, extent: Extent) -> Expr:
        count = as_expression(extent).astype(dtype)
        one, two = tirx.const(1, dtype), tirx.const(2, dtype)
        if aligned:
            steps = tirx.max(count - one, one)
            return place.astype(dtype) * two / steps - one
        return (place.astype(dtype) * two + one) / count - one

    def compute(theta: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            row = i[-1]
            total = theta(i[0], row, len(spatial))
            for axis, extent in enumerate(spatial):
                total = total + theta(i[0], row, len(spatial) - 1 - axis) * coordinate(i[1 + axis], extent)
            return total

        return tabulate((size[0], *spatial, len(spatial)), element, name="affine_grid")

    return node.te(compute, node.tensor(0), name="affine_grid")


@converts("DeformConv")
def deformed_convolution(node: Node) -> Expr:
    """A convolution whose taps are moved by offsets: the moved pixels in columns, then a matrix product."""
    (batch, channels, *size), (filters, group_channels, *kernel) = node.shape(0), node.shape(1)
    if len(size) != 2:
        raise InvalidModelError("only two spatial axes are supported")
    taps = [int(k) for k in kernel]
    strides, dilations = node.integers("strides", [1, 1]), node.integers("dilations", [1, 1])
    pads = explicit_pads(node, size, taps, strides, dilations)
    result = list(node.shape(2)[2:])
    groups, offset_groups = node.integer("group", 1), node.integer("offset_group", 1)
    count = taps[0] * taps[1]
    per_offset = node.extents.floor_divide(channels, offset_groups)
    masks = [node.tensor(4)] if node.has(4) else []

    def columns(x: te.Tensor, offset: te.Tensor, *mask: te.Tensor) -> te.Tensor:
        def element(b: Any, c: Any, k: Any, y: Any, z: Any) -> Expr:
            group = tirx.floordiv(c, as_expression(per_offset))
            tap = group * count + k
            corner = (tirx.floordiv(k, taps[1]), tirx.floormod(k, taps[1]))
            places = []
            for axis, (out, start) in enumerate(zip((y, z), corner, strict=True)):
                fixed = out * strides[axis] + start * dilations[axis] - pads[axis]
                places.append(fixed.astype(x.dtype) + offset(b, tap * 2 + axis, y, z))
            value = _weighted(x, (b, c), [_taps(p, "linear") for p in places], size, _outside("zeros", False))
            return value * mask[0](b, tap, y, z) if mask else value

        return tabulate((batch, channels, count, *result), element, name="deformed_columns")

    moved = node.te(columns, node.tensor(0), node.tensor(2), *masks, name="deformed_columns")
    inner = node.extents.product([group_channels, count])
    pixels = node.extents.product(result)
    panel = node.builder.reshape(moved, [batch, groups, inner, pixels])
    rows = node.extents.floor_divide(filters, groups)
    weight = node.builder.reshape(node.tensor(1), [1, groups, rows, inner])
    total = node.builder.reshape(
        node.builder.bound(product(node.builder, weight, panel)), [batch, filters, *result]
    )
    if not node.has(3):
        return total
    return relax.op.add(total, node.builder.reshape(node.tensor(3), [1, filters, 1, 1]))


@converts("RoiAlign")
def roi_align_unaligned(node: Node) -> Expr:
    return _roi_align(node, half_pixel=False)


@converts("RoiAlign", since=16)
def roi_align(node: Node) -> Expr:
    mode = node.text("coordinate_transformation_mode", "half_pixel")
    return _roi_align(node, half_pixel=mode == "half_pixel")


def _roi_align(node: Node, half_pixel: bool) -> Expr:
    """Averages or maxima of points sampled in each bin of each region: Mask R-CNN, section 3."""
    (_, channels, *size), regions = node.shape(0), node.shape(1)[0]
    bins = (node.integer("output_height", 1), node.integer("output_width", 1))
    ratio, scale = node.integer("sampling_ratio", 0), node.number("spatial_scale", 1.0)
    largest = node.text("mode", "avg") == "max"
    dtype = node.dtype(0)

    def c(value: float) -> Expr:
        return tirx.const(value, dtype)

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (x, boxes, batches), (result, counts, sides) = inputs, outputs
        shift = c(0.5 if half_pixel else 0.0)
        with loop(regions) as r:
            for axis in (0, 1):
                low = boxes[r, 1 - axis] * c(scale) - shift
                length = boxes[r, 3 - axis] * c(scale) - shift - low
                length = length if half_pixel else tirx.max(length, c(1))
                step = length / c(bins[axis])
                sides[axis, 0], sides[axis, 1] = low, step
                given = tirx.IntImm("int64", ratio)
                counts[axis] = given if ratio > 0 else tirx.ceil(step).astype("int64")
            with loop(channels) as ch, loop(bins[0]) as y, loop(bins[1]) as z:
                first = tirx.all(counts[0] > 0, counts[1] > 0)
                result[r, ch, y, z] = tirx.Select(first, tirx.min_value(dtype), c(0)) if largest else c(0)
                with loop(counts[0]) as a, loop(counts[1]) as b:
                    sample = _roi_sample(
                        x, (batches[r].astype("int64"), ch), size, sides, counts, ((y, a), (z, b)), largest
                    )
                    known = result[r, ch, y, z]
                    result[r, ch, y, z] = tirx.max(known, sample) if largest else known + sample
                if not largest:
                    points = tirx.max(counts[0] * counts[1], 1).astype(dtype)
                    result[r, ch, y, z] = result[r, ch, y, z] / points

    outputs = [((regions, channels, *bins), dtype), ((2,), "int64"), ((2, 2), dtype)]
    return loop_kernel(node.builder, node.tensors(), outputs, statements, "roi_align")[0]


def _roi_sample(
    x: Any,
    front: Sequence[Any],
    size: Sequence[Extent],
    sides: Any,
    counts: Any,
    places: Sequence[tuple[Any, Any]],
    largest: bool,
) -> Expr:
    """One bilinear sample; outside of the picture by more than a pixel it is zero. Maxima take the largest of
    the weighted neighbours, as the specification's reference does.
    """
    taps, valid = [], tirx.const(True, "bool")
    for axis, (bin_, point) in enumerate(places):
        step = sides[axis, 1]
        half = tirx.const(0.5, step.ty.dtype)
        inner = (point.astype(step.ty.dtype) + half) / counts[axis].astype(step.ty.dtype)
        position = sides[axis, 0] + (bin_.astype(step.ty.dtype) + inner) * step
        extent = as_expression(size[axis])
        valid = tirx.all(valid, position >= -_c(1, position), position <= extent.astype(step.ty.dtype))
        bounded = tirx.max(_c(0, position), tirx.min(position, (extent - 1).astype(step.ty.dtype)))
        base = tirx.floor(bounded).astype("int64")
        rest = bounded - tirx.floor(bounded)
        taps.append([(base, _c(1, rest) - rest), (tirx.min(base + 1, extent - 1), rest)])
    terms = [x[(*front, p, q)] * v * w for (p, v), (q, w) in itertools.product(*taps)]
    total = terms[0]
    for term in terms[1:]:
        total = tirx.max(total, term) if largest else total + term
    return tirx.Select(valid, total, tirx.const(0, total.ty.dtype))
