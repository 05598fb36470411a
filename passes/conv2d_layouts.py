"""Convolutions on the blocked layout NCHW[b]c: which can go there, and how their weights are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from tvm import ir, relax, te

from .compute import conv2d, layout
from .compute.conv2d_tiles import conv2d_tiles, has_known_extents, pack_tile_weight
from .compute.conv2d_window_pairs import choose_product, has_pairs_of_columns
from .constants import constant, constant_value
from .layout_assigner import Blocked, LayoutAssigner, feature_map_channels
from .tensor_types import element_type

FEW_CHANNELS = 4
"""Inputs with at most this many channels are read as they are: packing would mostly add idle lanes."""
NARROW = "bfloat16"
"""Dot products of this type are taken in pairs and added up in float32."""


def blocked_conv2d(assigner: LayoutAssigner, call: ir.Call) -> Blocked | None:
    """The rule for convolutions; None where the weights are no constant, or nothing here fits."""
    attrs, weight = call.attrs, constant_value(call.args[1])
    channels = feature_map_channels(call.args[0])
    if weight is None or channels is None or (attrs.data_layout, attrs.kernel_layout) != ("NCHW", "OIHW"):
        return None
    if element_type(call) != _sum_type(weight):
        return None
    (stride_h, stride_w), (dilation_h, dilation_w) = attrs.strides, attrs.dilation
    top, left, bottom, right = attrs.padding
    geometry = conv2d.Conv2dGeometry(
        (int(stride_h), int(stride_w)),
        (int(top), int(left), int(bottom), int(right)),
        (int(dilation_h), int(dilation_w)),
        int(attrs.groups),
    )
    if geometry.groups == 1:
        return _dense_conv2d(assigner, call.args[0], weight, geometry)
    return _grouped_conv2d(assigner, call.args[0], weight, geometry)


def _dense_conv2d(
    assigner: LayoutAssigner, data: relax.Expr, weight: np.ndarray, geometry: conv2d.Conv2dGeometry
) -> Blocked | None:
    narrow = weight.dtype.name == NARROW
    few = weight.shape[1] <= FEW_CHANNELS and not assigner.is_blocked(data)
    tiles = narrow and assigner.depth > 2 and has_known_extents(data)
    if few and narrow and has_pairs_of_columns(weight, geometry):
        packed, product = choose_product(weight, assigner.block, tiles)
        source = assigner.visit_expr(data)
        return _convolve(assigner, product, source, constant(packed), geometry, weight.shape[0])
    blocked = None if few and not narrow else assigner.as_blocked(data)
    if narrow and blocked is None:
        return None
    source = assigner.visit_expr(data) if blocked is None else blocked.expr
    clear = partial(conv2d_tiles, channels=weight.shape[1], clear=not assigner.idle_lanes_are_finite)
    product = clear if tiles else _direct(assigner, weight)
    packed = (pack_tile_weight if tiles else layout.pack_conv2d_weight)(weight, assigner.block)
    return _convolve(assigner, product, source, constant(packed), geometry, weight.shape[0])


def _grouped_conv2d(
    assigner: LayoutAssigner, data: relax.Expr, weight: np.ndarray, geometry: conv2d.Conv2dGeometry
) -> Blocked | None:
    out_channels, group_channels = weight.shape[:2]
    if group_channels == 1 and out_channels == geometry.groups:
        return _depthwise_conv2d(assigner, data, weight, geometry)
    merged = layout.groups_to_merge(geometry.groups, out_channels // geometry.groups, assigner.block)
    if merged is None:
        return None
    weight = layout.merge_groups(weight, geometry.groups, merged)
    geometry = replace(geometry, groups=geometry.groups // merged)
    if geometry.groups == 1:
        return _dense_conv2d(assigner, data, weight, geometry)
    source = assigner.as_blocked(data)
    if source is None:
        return None
    packed = constant(layout.pack_conv2d_weight(weight, assigner.block))
    return _convolve(assigner, _direct(assigner, weight), source.expr, packed, geometry, out_channels)


def _depthwise_conv2d(
    assigner: LayoutAssigner, data: relax.Expr, weight: np.ndarray, geometry: conv2d.Conv2dGeometry
) -> Blocked | None:
    source = assigner.as_blocked(data)
    if source is None:
        return None
    # Without pairs: there is nothing to add up in a dot product.
    weight = weight.astype("float32") if weight.dtype.name == NARROW else weight
    packed = constant(layout.pack_depthwise_weight(weight, assigner.block))
    product = _direct(assigner, weight, conv2d.depthwise_conv2d_nchwc)
    return _convolve(assigner, product, source.expr, packed, geometry, weight.shape[0])


def _direct(
    assigner: LayoutAssigner, weight: np.ndarray, definition: Callable[..., te.Tensor] = conv2d.conv2d_nchwc
) -> Callable[..., te.Tensor]:
    """``definition`` with sums of float16 as long as they may be."""
    half = weight.dtype.name == "float16" and assigner.depth > 1
    return partial(definition, half_terms=assigner.depth) if half else definition


def _sum_type(operand: np.ndarray) -> str:
    """The type in which products of ``operand`` are added up."""
    return "float32" if operand.dtype.name in (NARROW, "float16") else operand.dtype.name


def _convolve(
    assigner: LayoutAssigner,
    compute: Callable[..., te.Tensor],
    source: relax.Expr,
    weight: relax.Expr,
    geometry: conv2d.Conv2dGeometry,
    channels: int,
) -> Blocked:
    call = assigner.builder_.call_te(
        partial(compute, geometry=geometry),
        source,
        weight,
        primfunc_name_hint=(compute.func if isinstance(compute, partial) else compute).__name__,
        primfunc_attrs={conv2d.GEOMETRY: geometry.as_attribute()},
    )
    return assigner.emit(call, channels)
