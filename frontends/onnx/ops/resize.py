"""Resize and Upsample: interpolation along any axes, one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Call, Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..interpolation import ResampledAxis, coordinate, interpolate, is_inside
from ..node import Node, normalize_axis
from ..registry import converts
from ..shape_numbers import scaled_extent
from ..tabulate import tabulate
from ..values import SymbolicArray

_SIGN = 1 << 31
"""The bit of a float32's sign."""


@converts("Upsample")
def upsample(node: Node) -> Expr:
    scales = list(node.numbers("scales")) if node.has_attribute("scales") else _scale_list(node, 1)
    axes = _axes_from_scales(node, range(node.rank(0)), scales)
    return _resample(node, axes, node.text("mode", "nearest"), "asymmetric", "floor")


@converts("Resize")
def resize_by_scales(node: Node) -> Expr:
    """Opset 10: only scales, always asymmetric."""
    axes = _axes_from_scales(node, range(node.rank(0)), _scale_list(node, 1))
    return _resample(node, axes, node.text("mode", "nearest"), "asymmetric", "floor")


@converts("Resize", since=11)
def resize(node: Node) -> Expr:
    rank = node.rank(0)
    chosen = [normalize_axis(axis, rank) for axis in node.integers("axes", range(rank))]
    if node.has(3) and node.shape(3) != (0,):
        axes = _axes_from_sizes(node, chosen, node.extent_list(3))
    elif node.has(2) and node.shape(2) != (0,):
        axes = _axes_from_scales(node, chosen, _scale_list(node, 2))
    else:
        raise InvalidModelError("neither scales nor sizes are given")
    if node.integer("antialias", 0):
        axes = [replace(a, reach=_reach(node, a, node.text("mode", "nearest"))) for a in axes]
    transform = node.text("coordinate_transformation_mode", "half_pixel")
    if transform == "tf_crop_and_resize":
        axes = _with_region(node, axes)
    rounding = node.text("nearest_mode", "round_prefer_floor")
    return _resample(node, axes, node.text("mode", "nearest"), transform, rounding)


def _scale_list(node: Node, index: int) -> list[Any]:
    value = node.value(index)
    if isinstance(value, SymbolicArray):
        return list(value.elements.reshape(-1))
    if isinstance(value, np.ndarray):
        return [float(scale) for scale in value.reshape(-1)]
    return _scales_from_data(node, index)


def _scales_from_data(node: Node, index: int) -> list[Any]:
    """Run-time numbers as expressions: the bits of each float32 are symbolic dimensions, the sign its own."""
    count = int(node.shape(index)[0])

    def bits_of(scale: te.Tensor) -> list[te.Tensor]:
        def bits(i: Any) -> Expr:
            return tirx.reinterpret("uint32", scale(i)).astype("int64")

        half = tirx.IntImm("int64", _SIGN)
        magnitude = tabulate((count,), lambda i: tirx.floormod(bits(i), half), name="scale_bits")
        return [magnitude, tabulate((count,), lambda i: tirx.floordiv(bits(i), half), name="scale_sign")]

    numbers = node.builder.cast(node.tensor(index), "float32")
    magnitudes, signs = (
        node.builder.read_extents(part, f"{node.outputs[0]}_scale")
        for part in node.te(bits_of, numbers, name="scale_bits")
    )
    return [
        tirx.reinterpret("float32", as_expression(magnitude + sign * _SIGN).astype("uint32"))
        for magnitude, sign in zip(magnitudes, signs, strict=True)
    ]


def _axes_from_scales(node: Node, chosen: Sequence[int], scales: Sequence[Any]) -> list[ResampledAxis]:
    shape = node.shape(0)
    axes = []
    for axis, scale in zip(chosen, scales, strict=True):
        target = _scaled(node, shape[axis], scale)
        exact = scale if isinstance(scale, int | float) else scale.astype("float32")
        axes.append(ResampledAxis(axis, shape[axis], target, exact))
    return axes


def _scaled(node: Node, extent: Extent, scale: Any) -> Extent:
    """floor(extent * scale); a new dimension where the scale is data."""
    if not isinstance(scale, Call):
        return scaled_extent(node.extents, extent, scale)

    product = as_expression(extent).astype("float32") * scale
    return _measured(node, tirx.floor(product), "scaled_extent")


def _measured(node: Node, number: Expr, name: str) -> Extent:
    """A whole number that only the run can compute, as a new dimension."""

    def compute() -> te.Tensor:
        return tabulate((1,), lambda _: number.astype("int64"), name=name)

    return node.builder.read_extents(node.te(compute, name=name), f"{node.outputs[0]}_{name}")[0]


def _axes_from_sizes(node: Node, chosen: Sequence[int], sizes: Sequence[Extent]) -> list[ResampledAxis]:
    shape = node.shape(0)
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        return _keeping_ratio(node, chosen, sizes, policy)
    return [
        ResampledAxis(axis, shape[axis], size, _scale(node, shape[axis], size))
        for axis, size in zip(chosen, sizes, strict=True)
    ]


def _keeping_ratio(
    node: Node, chosen: Sequence[int], sizes: Sequence[Extent], policy: str
) -> list[ResampledAxis]:
    shape = node.shape(0)
    smaller = policy == "not_larger"
    if all(isinstance(e, int) for e in [*sizes, *(shape[axis] for axis in chosen)]):
        ratios = [size / shape[axis] for axis, size in zip(chosen, sizes, strict=True)]
        scale = min(ratios) if smaller else max(ratios)
        return [ResampledAxis(a, shape[a], int(np.floor(scale * shape[a] + 0.5)), scale) for a in chosen]
    quotients = [_double(size) / _double(shape[axis]) for axis, size in zip(chosen, sizes, strict=True)]
    common = reduce(tirx.min if smaller else tirx.max, quotients)
    half = tirx.const(0.5, "float64")
    targets = [
        _measured(node, tirx.floor(common * _double(shape[a]) + half), "scaled_extent") for a in chosen
    ]
    return [
        ResampledAxis(a, shape[a], target, common.astype("float32"))
        for a, target in zip(chosen, targets, strict=True)
    ]


def _double(extent: Extent) -> Expr:
    return as_expression(extent).astype("float64")


def _reach(node: Node, a: ResampledAxis, mode: str) -> Extent | None:
    """Half of the number of neighbours that an anti-aliased element averages; None where nothing shrinks."""
    reach = 2 if mode == "cubic" else 1
    if isinstance(a.scale, int | float):
        return int(np.ceil(reach / float(a.scale))) if a.scale < 1 else None
    return _measured(node, tirx.ceil(a.number(reach) / tirx.min(a.number(a.scale), a.number(1))), "reach")


def _scale(node: Node, source: Extent, target: Extent) -> Any:
    """target / source; a number where the quotient is known although the extents are not."""
    if isinstance(source, int) and isinstance(target, int):
        return target / source if source else 1.0
    quotient = node.extents.floor_divide(target, source)
    if isinstance(quotient, int) and node.extents.equal(node.extents.simplify(quotient * source), target):
        return float(quotient)
    return _double(target) / _double(source)


def _with_region(node: Node, axes: list[ResampledAxis]) -> list[ResampledAxis]:
    region, count = _scale_list(node, 1), len(axes)
    return [
        replace(a, start=region[position], end=region[position + count]) for position, a in enumerate(axes)
    ]


def _resample(node: Node, axes: list[ResampledAxis], mode: str, transform: str, rounding: str) -> Expr:
    active = [a for a in axes if not _is_identity(node, a, transform)]
    if not active:
        return node.tensor(0)
    if mode == "nearest":
        return _nearest(node, node.tensor(0), active, transform, rounding)
    if mode not in ("linear", "cubic", "bilinear", "trilinear"):
        raise InvalidModelError(f"the interpolation mode '{mode}' does not exist")
    dtype = node.dtype(0)
    real = "float64" if dtype == "float64" else "float32"
    result = _interpolated(
        node,
        node.builder.cast(node.tensor(0), real),
        [replace(a, real=real) for a in active],
        "cubic" if mode == "cubic" else "linear",
        transform,
    )
    return node.builder.cast(result, dtype)


def _is_identity(node: Node, a: ResampledAxis, transform: str) -> bool:
    if transform == "tf_crop_and_resize":
        return False
    return isinstance(a.scale, int | float) and a.scale == 1.0 and node.extents.equal(a.source, a.target)


def _nearest(node: Node, x: Expr, axes: list[ResampledAxis], transform: str, rounding: str) -> Expr:
    factors = [_whole_factor(a, transform, rounding) for a in axes]
    if None not in factors:
        for a, factor in zip(axes, factors, strict=True):
            x = node.emit(relax.op.repeat(x, factor, a.axis))
        return x
    shape = list(node.builder.shape(x))
    for a in axes:
        shape[a.axis] = a.target
    outside = _extrapolation(node, transform)
    dtype = node.builder.dtype(x)

    def compute(data: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            place = list(index)
            inside = tirx.const(True, "bool")
            for a in axes:
                place[a.axis], within = _nearest_place(a, index[a.axis], transform, rounding)
                inside = tirx.all(inside, within)
            if outside is None:
                return data(*place)
            return tirx.if_then_else(inside, data(*place), tirx.const(outside, dtype))

        return tabulate(shape, element, name="resize_nearest")

    return node.te(compute, x, name="resize_nearest")


def _extrapolation(node: Node, transform: str) -> float | None:
    return node.number("extrapolation_value", 0.0) if transform == "tf_crop_and_resize" else None


def _whole_factor(a: ResampledAxis, transform: str, rounding: str) -> int | None:
    """How often each element is simply repeated; None where the axis is resampled otherwise."""
    if not isinstance(a.scale, int | float) or a.scale != int(a.scale) or a.scale < 1:
        return None
    # (i + 0.5) / s - 0.5 is nearest to floor(i / s), and never half way.
    repeats = (transform, rounding) == ("asymmetric", "floor") or (
        transform == "half_pixel" and rounding.startswith("round")
    )
    return int(a.scale) if repeats else None


def _nearest_place(a: ResampledAxis, index: Any, transform: str, rounding: str) -> tuple[Any, Any]:
    factor = _whole_factor(a, transform, rounding)
    if factor is not None:
        return tirx.floordiv(index, factor), tirx.const(True, "bool")
    position = coordinate(a, index, transform)
    rounded = _ROUNDINGS[rounding](position).astype("int64")
    last = as_expression(a.source) - 1
    place = tirx.max(tirx.min(rounded, last), tirx.IntImm("int64", 0))
    return place, is_inside(a, position)


_ROUNDINGS = {
    "floor": tirx.floor,
    "ceil": tirx.ceil,
    "round_prefer_floor": lambda x: tirx.ceil(x - tirx.const(0.5, "float32")),
    "round_prefer_ceil": lambda x: tirx.floor(x + tirx.const(0.5, "float32")),
}


def _interpolated(node: Node, x: Expr, axes: list[ResampledAxis], mode: str, transform: str) -> Expr:
    """Interpolates along one axis after the other, the last one first (rows stay contiguous)."""
    outside = _extrapolation(node, transform)
    for a in axes:
        x = interpolate(node, x, a, mode, transform)
    if outside is None:
        return x
    dtype = node.builder.dtype(x)

    def compute(data: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            inside = tirx.all(*(is_inside(a, coordinate(a, index[a.axis], transform)) for a in axes))
            return tirx.Select(inside, data(*index), tirx.const(outside, dtype))

        return tabulate(data.shape, element, name="resize_extrapolate")

    return node.te(compute, x, name="resize_extrapolate")
