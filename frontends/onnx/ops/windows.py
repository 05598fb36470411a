"""Operators that put windows back into pictures, and that cut pictures to size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..loops import loop, loop_kernel, unravelled, when
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate


@converts("Col2Im")
def columns_to_image(node: Node) -> Expr:
    """The sum of overlapping blocks, each pixel gathering from all blocks that cover it."""
    size = node.extent_list(1)
    block = node.extent_list(2)
    spatial = len(block)
    ones = [1] * spatial
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    pads = node.integers("pads", [0] * (2 * spatial))
    batch, rows, _ = node.shape(0)
    volume = node.extents.product(block)
    channels = node.extents.floor_divide(rows, volume)
    counts = []
    for axis, stride in enumerate(strides):
        reach = dilations[axis] * (block[axis] - 1) + 1
        room = node.extents.simplify(size[axis] + pads[axis] + pads[axis + spatial] - reach)
        counts.append(node.extents.simplify(node.extents.floor_divide(room, stride) + 1))

    def compute(x: te.Tensor) -> te.Tensor:
        taps = [
            te.reduce_axis((0, as_expression(extent)), name=f"k{axis}") for axis, extent in enumerate(block)
        ]

        def element(b: Any, c: Any, *place: Any) -> Expr:
            row, column = c, tirx.IntImm("int64", 0)
            valid = tirx.const(True, "bool")
            for axis, tap in enumerate(taps):
                start = place[axis] + pads[axis] - tap * dilations[axis]
                window = tirx.floordiv(start, strides[axis])
                limit = as_expression(counts[axis])
                aligned = tirx.floormod(start, strides[axis]) == 0
                valid = tirx.all(valid, aligned, window >= 0, window < limit)
                row = row * block[axis] + tap
                column = column * limit + window
            return te.sum(tirx.if_then_else(valid, x(b, row, column), tirx.const(0, x.dtype)), axis=taps)

        return tabulate((batch, channels, *size), element, name="col2im")

    return node.te(compute, node.tensor(0), name="col2im")


@converts("MaxUnpool")
def max_unpool(node: Node) -> Expr:
    """Values at the places where pooling found them, zeros elsewhere."""
    shape = node.shape(0)
    natural = _unpooled_shape(node, shape)
    target = node.extent_list(2) if node.has(2) else natural
    dtype = node.dtype(0)

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (values, places), (result,) = inputs, outputs
        with loop(node.extents.product(target)) as flat:
            result[unravelled(flat, target)] = tirx.const(0, dtype)
        with loop(node.extents.product(shape)) as flat:
            source = unravelled(flat, shape)
            # Positions count in the picture that was pooled, which may be smaller than the result.
            place = unravelled(places[source], natural)
            inside = [p < as_expression(e) for p, e in zip(place, target, strict=True)]
            with when(tirx.all(*inside)):
                result[place if node.has(2) else unravelled(places[source], target)] = values[source]

    tensors = [node.tensor(0), node.tensor(1)]
    return loop_kernel(node.builder, tensors, [(target, dtype)], statements, "max_unpool")[0]


def _unpooled_shape(node: Node, shape: Sequence[Extent]) -> list[Extent]:
    kernel = node.integers("kernel_shape")
    spatial = len(kernel)
    strides, pads = node.integers("strides", [1] * spatial), node.integers("pads", [0] * (2 * spatial))
    return [
        *shape[:2],
        *(
            node.extents.simplify((shape[a + 2] - 1) * strides[a] + kernel[a] - pads[a] - pads[a + spatial])
            for a in range(spatial)
        ),
    ]


@converts("CenterCropPad")
def center_crop_pad(node: Node) -> Expr:
    """The middle of the input, or the input in the middle of zeros, along each axis."""
    shape, rank = node.shape(0), node.rank(0)
    axes = [normalize_axis(axis, rank) for axis in node.integers("axes", range(rank))]
    sizes = node.extent_list(1)
    if len(sizes) != len(axes):
        raise InvalidModelError(f"{len(sizes)} extents do not fit {len(axes)} axes")
    target = list(shape)
    for axis, size in zip(axes, sizes, strict=True):
        target[axis] = size
    two = tirx.IntImm("int64", 2)

    def compute(x: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            places, inside = list(i), tirx.const(True, "bool")
            for axis in axes:
                given, wanted = as_expression(shape[axis]), as_expression(target[axis])
                cut = tirx.floordiv(tirx.max(given - wanted, 0), two)
                border = tirx.floordiv(tirx.max(wanted - given, 0), two)
                places[axis] = i[axis] + cut - border
                inside = tirx.all(inside, places[axis] >= 0, places[axis] < given)
            return tirx.if_then_else(inside, x(*places), tirx.const(0, x.dtype))

        return tabulate(target, element, name="center_crop_pad")

    return node.te(compute, node.tensor(0), name="center_crop_pad")


@converts("MaxRoiPool")
def max_roi_pool(node: Node) -> Expr:
    """The largest element of each bin of each region; a region is (batch, x1, y1, x2, y2)."""
    (_, channels, *size), regions = node.shape(0), node.shape(1)[0]
    bins = node.integers("pooled_shape")
    scale, dtype = node.number("spatial_scale", 1.0), node.dtype(0)

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        (x, boxes), (result, bounds) = inputs, outputs
        with loop(regions) as r, loop(channels) as c, loop(bins[0]) as y, loop(bins[1]) as z:
            for axis, place in enumerate((y, z)):
                low, high = _bin(boxes, r, axis, place, bins[axis], scale, as_expression(size[axis]))
                bounds[axis, 0], bounds[axis, 1] = low, high
            empty = tirx.any(bounds[0, 1] <= bounds[0, 0], bounds[1, 1] <= bounds[1, 0])
            result[r, c, y, z] = tirx.Select(empty, tirx.const(0, dtype), tirx.min_value(dtype))
            with loop(bounds[0, 1] - bounds[0, 0]) as a, loop(bounds[1, 1] - bounds[1, 0]) as b:
                value = x[boxes[r, 0].astype("int64"), c, bounds[0, 0] + a, bounds[1, 0] + b]
                result[r, c, y, z] = tirx.max(result[r, c, y, z], value)

    outputs = [((regions, channels, *bins), dtype), ((2, 2), "int64")]
    return loop_kernel(node.builder, node.tensors(), outputs, statements, "max_roi_pool")[0]


def _bin(
    boxes: Any, region: Any, axis: int, place: Any, count: int, scale: float, extent: Expr
) -> tuple[Expr, Expr]:
    """First and last + 1 position of a bin."""
    factor = tirx.const(scale, "float32")
    low = tirx.round(boxes[region, 2 - axis] * factor).astype("int64")
    high = tirx.round(boxes[region, 4 - axis] * factor).astype("int64")
    step = tirx.max(high - low + 1, 1).astype("float32") / tirx.const(count, "float32")
    first = tirx.floor(place.astype("float32") * step).astype("int64") + low
    last = tirx.ceil((place + 1).astype("float32") * step).astype("int64") + low
    zero = tirx.IntImm("int64", 0)
    return tirx.max(zero, tirx.min(first, extent)), tirx.max(zero, tirx.min(last, extent))
