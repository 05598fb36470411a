"""Convolutions: one, two and three spatial dimensions, in the layouts NC... and OI... ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax
from tvm.ir import Constant, Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent
from ..graph_builder import GraphBuilder
from ..node import Node
from ..precision import widened
from ..registry import converts
from .padding import pad_and_dilate, pad_constant


@converts("Conv")
def convolution(node: Node) -> Expr:
    x, weight = node.tensor(0), node.tensor(1)
    kernel = _kernel(node, weight)
    spatial = len(kernel)
    strides, dilations = node.integers("strides", [1] * spatial), node.integers("dilations", [1] * spatial)
    group = node.integer("group", 1)
    x = _channels_agree(node, x, node.builder.shape(weight)[1], group)
    pads = explicit_pads(node, node.builder.shape(x)[2:], kernel, strides, dilations)
    if not all(isinstance(pad, int) and pad >= 0 for pad in pads):
        x = _padded(node, x, pads)
        pads = [0] * (2 * spatial)

    def compute(data: Expr, filters: Expr) -> Expr:
        return convolve(node, data, filters, strides, [int(pad) for pad in pads], dilations, group)

    return with_bias(node, widened(node.builder, compute, x, weight))


def _kernel(node: Node, weight: Expr) -> list[int]:
    extents = node.builder.shape(weight)[2:]
    declared = node.optional_integers("kernel_shape")
    if declared is not None and list(declared) != list(extents) and all(isinstance(e, int) for e in extents):
        raise InvalidModelError(f"kernel_shape {list(declared)} contradicts the weight's {list(extents)}")
    if declared is None and not all(isinstance(e, int) for e in extents):
        raise node.static_required(1)
    return [int(extent) for extent in (declared or extents)]


def _channels_agree(node: Node, x: Expr, per_group: Extent, group: int) -> Expr:
    shape = list(node.builder.shape(x))
    shape[1] = node.builder.unify(node.extents.simplify(per_group * group), shape[1])
    return node.builder.cast_shape(x, shape)


def _padded(node: Node, x: Expr, pads: Sequence[Extent]) -> Expr:
    half = len(pads) // 2
    before: list[Extent] = [0, 0, *pads[:half]]
    after: list[Extent] = [0, 0, *pads[half:]]
    return pad_constant(node, x, before, after, np.zeros((), node.builder.dtype(x)))


def convolve(
    node: Node,
    x: Expr,
    weight: Expr,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> Expr:
    """A convolution of any spatial rank; one spatial dimension becomes two with a height of 1."""
    builder = node.builder
    spatial = len(strides)
    if spatial > 1:
        op = relax.op.nn.conv2d if spatial == 2 else relax.op.nn.conv3d
        return builder.emit(
            op(x, weight, strides=list(strides), padding=list(pads), dilation=list(dilations), groups=group)
        )
    plane = builder.emit(relax.op.expand_dims(x, 2))
    filters = _flat_filters(builder, weight)
    result = builder.emit(
        relax.op.nn.conv2d(
            plane,
            filters,
            strides=[1, *strides],
            padding=[0, pads[0], 0, pads[1]],
            dilation=[1, *dilations],
            groups=group,
        )
    )
    return builder.emit(relax.op.squeeze(result, [2]))


def _flat_filters(builder: GraphBuilder, weight: Expr) -> Expr:
    """Filters with a height of 1; a constant stays one."""
    if isinstance(weight, Constant):
        array = weight.value.numpy()
        return builder.constant(array.reshape(*array.shape[:2], 1, *array.shape[2:]))
    return builder.emit(relax.op.expand_dims(weight, 2))


def with_bias(node: Node, result: Expr, index: int = 2) -> Expr:
    """The result plus a bias for each channel, if the node has one."""
    if not node.has(index):
        return result
    spatial = len(node.builder.shape(result)) - 2
    bias = node.value(index)
    shape = [1, -1, *[1] * spatial]
    if isinstance(bias, np.ndarray):
        return relax.op.add(result, node.builder.constant(bias.reshape(shape)))
    channels = node.builder.shape(result)[1]
    return relax.op.add(result, node.builder.reshape(node.tensor(index), [1, channels, *[1] * spatial]))


def explicit_pads(
    node: Node,
    extents: Sequence[Extent],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[Extent]:
    """Padding before every spatial axis, then after every one, with auto_pad resolved."""
    spatial = len(kernel)
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return list(node.integers("pads", [0] * (2 * spatial)))
    if mode == "VALID":
        return [0] * (2 * spatial)
    before: list[Extent] = []
    after: list[Extent] = []
    for extent, size, stride, dilation in zip(extents, kernel, strides, dilations, strict=True):
        reach = (size - 1) * dilation + 1
        # What the last window lacks: nothing where the stride divides the extent.
        lacking = node.extents.remainder(-1 * extent, stride)
        total = node.extents.maximum(node.extents.simplify(reach - stride + lacking), 0)
        small = node.extents.floor_divide(total, 2)
        large = node.extents.simplify(total - small)
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return before + after


@dataclass(frozen=True)
class _Transposition:
    """The geometry of a transposed convolution, an entry for each spatial axis.

    Attributes:
        strides: how far neighbours of the input come to lie apart.
        dilations: how far neighbours of the filter lie apart.
        pads: what is cut before every axis, then after every one.
        extra: what is added after every axis (ONNX: output_padding).
        group: how many parts the channels are taken in.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    extra: tuple[int, ...]
    group: int

    @property
    def is_simple(self) -> bool:
        """Whether Relax's own operator has it."""
        return (
            len(self.strides) == 2
            and self.group == 1
            and all(dilation == 1 for dilation in self.dilations)
            and all(extra < stride for extra, stride in zip(self.extra, self.strides, strict=True))
            and all(pad >= 0 for pad in self.pads)
        )


@converts("ConvTranspose")
def transposed_convolution(node: Node) -> Expr:
    x, weight = node.tensor(0), node.tensor(1)
    kernel = _kernel(node, weight)
    ones = [1] * len(kernel)
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    shape = list(node.builder.shape(x))
    shape[1] = node.builder.unify(node.builder.shape(weight)[0], shape[1])
    x = node.builder.cast_shape(x, shape)
    pads, extra = _transposed_pads(node, shape[2:], kernel, strides, dilations)
    geometry = _Transposition(strides, dilations, tuple(pads), tuple(extra), node.integer("group", 1))

    def compute(data: Expr, filters: Expr) -> Expr:
        return _transposed(node, data, filters, geometry)

    return with_bias(node, widened(node.builder, compute, x, weight))


def _transposed_pads(
    node: Node,
    extents: Sequence[Extent],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[list[int], list[int]]:
    """(pads, output_padding), from whatever combination of attributes the node has."""
    spatial = len(kernel)
    extra = list(node.integers("output_padding", [0] * spatial))
    mode = node.text("auto_pad", "NOTSET")
    wanted = node.optional_integers("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        return list(node.integers("pads", [0] * (2 * spatial))), extra
    before, after = [], []
    for axis, (extent, size, stride, dilation) in enumerate(
        zip(extents, kernel, strides, dilations, strict=True)
    ):
        full = node.extents.simplify((extent - 1) * stride + extra[axis] + (size - 1) * dilation + 1)
        target = wanted[axis - spatial + len(wanted)] if wanted is not None else extent * stride
        total = node.extents.simplify(full - target)
        if not isinstance(total, int):
            raise InvalidModelError("output_shape needs known input extents; bind them with shapes")
        if total < 0:
            extra[axis], total = extra[axis] - total, 0
        small = total // 2
        before.append(total - small if mode != "SAME_UPPER" else small)
        after.append(small if mode != "SAME_UPPER" else total - small)
    return before + after, extra


def _transposed(node: Node, x: Expr, weight: Expr, geometry: _Transposition) -> Expr:
    if not geometry.is_simple:
        return _transposed_by_dilation(node, x, weight, geometry)
    return node.builder.emit(
        relax.op.nn.conv2d_transpose(
            x,
            weight,
            strides=list(geometry.strides),
            padding=list(geometry.pads),
            output_padding=list(geometry.extra),
        )
    )


def _transposed_by_dilation(node: Node, x: Expr, weight: Expr, geometry: _Transposition) -> Expr:
    """Spreads the input by the strides, then convolves with the mirrored filter."""
    spatial, dilations, group = len(geometry.strides), geometry.dilations, geometry.group
    kernel = [int(extent) for extent in node.builder.shape(weight)[2:]]
    reach = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
    before = [r - p for r, p in zip(reach, geometry.pads[:spatial], strict=True)]
    after = [r - p + e for r, p, e in zip(reach, geometry.pads[spatial:], geometry.extra, strict=True)]
    spread = pad_and_dilate(node, x, [0, 0, *before], [0, 0, *after], [1, 1, *geometry.strides])
    filters = _mirrored(node, weight, group)
    ones = [1] * spatial
    if spatial == 1:
        spread = node.builder.emit(relax.op.expand_dims(spread, 2))
        filters = node.builder.emit(relax.op.expand_dims(filters, 2))
        result = node.builder.emit(
            relax.op.nn.conv2d(
                spread, filters, strides=[1, 1], padding=[0] * 4, dilation=[1, *dilations], groups=group
            )
        )
        return node.builder.emit(relax.op.squeeze(result, [2]))
    return convolve(node, spread, filters, ones, [0] * (2 * spatial), dilations, group)


def _mirrored(node: Node, weight: Expr, group: int) -> Expr:
    """Filters [C, M/group, ...] as the convolution wants them: [M, C/group, ...], spatially reversed."""
    builder = node.builder
    shape = builder.shape(weight)
    value = node.value(1)
    spatial_axes = list(range(2, len(shape)))
    if isinstance(value, np.ndarray):
        grouped = value.astype(builder.dtype(weight)).reshape(group, shape[0] // group, *shape[1:])
        filters = np.swapaxes(grouped, 1, 2).reshape(group * shape[1], shape[0] // group, *shape[2:])
        return builder.constant(np.ascontiguousarray(np.flip(filters, tuple(spatial_axes))))
    inner = node.extents.floor_divide(shape[0], group)
    grouped = builder.reshape(weight, [group, inner, *shape[1:]])
    swapped = builder.emit(relax.op.permute_dims(grouped, [0, 2, 1, *range(3, len(shape) + 1)]))
    filters = builder.reshape(swapped, [node.extents.simplify(shape[1] * group), inner, *shape[2:]])
    for axis in spatial_axes:
        filters = builder.emit(relax.op.flip(filters, axis))
    return filters
