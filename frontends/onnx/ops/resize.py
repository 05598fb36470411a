"""Resize and Upsample: interpolation along any axes, one axis after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Call, Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..registry import converts
from ..shape_numbers import scaled_extent
from ..tabulate import tabulate
from ..values import SymbolicArray

_SIGN = 1 << 31
"""The bit of a float32's sign."""


@dataclass(frozen=True)
class _Axis:
    """How one axis is resampled.

    Attributes:
        scale: output extent / input extent as the node states it (float or float32 expression).
        start, end: the region of interest, relative to the extent (float or float32 expression).
        reach: half of the number of neighbours that an anti-aliased element averages, else None.
    """

    axis: int
    source: Extent
    target: Extent
    scale: Any
    start: Any = 0.0
    end: Any = 1.0
    reach: Extent | None = None


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


def _axes_from_scales(node: Node, chosen: Sequence[int], scales: Sequence[Any]) -> list[_Axis]:
    shape = node.shape(0)
    axes = []
    for axis, scale in zip(chosen, scales, strict=True):
        target = _scaled(node, shape[axis], scale)
        exact = scale if isinstance(scale, int | float) else scale.astype("float32")
        axes.append(_Axis(axis, shape[axis], target, exact))
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


def _axes_from_sizes(node: Node, chosen: Sequence[int], sizes: Sequence[Extent]) -> list[_Axis]:
    shape = node.shape(0)
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        return _keeping_ratio(node, chosen, sizes, policy)
    return [
        _Axis(axis, shape[axis], size, _scale(node, shape[axis], size))
        for axis, size in zip(chosen, sizes, strict=True)
    ]


def _keeping_ratio(node: Node, chosen: Sequence[int], sizes: Sequence[Extent], policy: str) -> list[_Axis]:
    shape = node.shape(0)
    smaller = policy == "not_larger"
    if all(isinstance(e, int) for e in [*sizes, *(shape[axis] for axis in chosen)]):
        ratios = [size / shape[axis] for axis, size in zip(chosen, sizes, strict=True)]
        scale = min(ratios) if smaller else max(ratios)
        return [_Axis(a, shape[a], int(np.floor(scale * shape[a] + 0.5)), scale) for a in chosen]
    quotients = [_double(size) / _double(shape[axis]) for axis, size in zip(chosen, sizes, strict=True)]
    common = reduce(tirx.min if smaller else tirx.max, quotients)
    half = tirx.const(0.5, "float64")
    targets = [
        _measured(node, tirx.floor(common * _double(shape[a]) + half), "scaled_extent") for a in chosen
    ]
    return [
        _Axis(a, shape[a], target, common.astype("float32"))
        for a, target in zip(chosen, targets, strict=True)
    ]


def _double(extent: Extent) -> Expr:
    return as_expression(extent).astype("float64")


def _reach(node: Node, a: _Axis, mode: str) -> Extent | None:
    """Half of the number of neighbours that an anti-aliased element averages; None where nothing shrinks."""
    reach = 2 if mode == "cubic" else 1
    if isinstance(a.scale, int | float):
        return int(np.ceil(reach / float(a.scale))) if a.scale < 1 else None
    return _measured(node, tirx.ceil(_f(reach) / tirx.min(a.scale, _f(1))), "reach")


def _scale(node: Node, source: Extent, target: Extent) -> Any:
    """target / source; a number where the quotient is known although the extents are not."""
    if isinstance(source, int) and isinstance(target, int):
        return target / source if source else 1.0
    quotient = node.extents.floor_divide(target, source)
    if isinstance(quotient, int) and node.extents.equal(node.extents.simplify(quotient * source), target):
        return float(quotient)
    return as_expression(target).astype("float32") / as_expression(source).astype("float32")


def _with_region(node: Node, axes: list[_Axis]) -> list[_Axis]:
    region, count = _scale_list(node, 1), len(axes)
    return [
        replace(a, start=region[position], end=region[position + count]) for position, a in enumerate(axes)
    ]


def _resample(node: Node, axes: list[_Axis], mode: str, transform: str, rounding: str) -> Expr:
    active = [a for a in axes if not _is_identity(node, a, transform)]
    if not active:
        return node.tensor(0)
    if mode == "nearest":
        return _nearest(node, node.tensor(0), active, transform, rounding)
    if mode not in ("linear", "cubic", "bilinear", "trilinear"):
        raise InvalidModelError(f"the interpolation mode '{mode}' does not exist")
    dtype = node.dtype(0)
    wide = node.builder.cast(node.tensor(0), dtype if dtype in ("float32", "float64") else "float32")
    result = _interpolated(node, wide, active, "cubic" if mode == "cubic" else "linear", transform)
    if dtype in ("float32", "float64", "float16", "bfloat16"):
        return node.builder.cast(result, dtype)
    return node.builder.cast(result, dtype)


def _is_identity(node: Node, a: _Axis, transform: str) -> bool:
    if transform == "tf_crop_and_resize":
        return False
    return isinstance(a.scale, int | float) and a.scale == 1.0 and node.extents.equal(a.source, a.target)


def _nearest(node: Node, x: Expr, axes: list[_Axis], transform: str, rounding: str) -> Expr:
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


def _whole_factor(a: _Axis, transform: str, rounding: str) -> int | None:
    """How often each element is simply repeated; None where the axis is resampled otherwise."""
    if not isinstance(a.scale, int | float) or a.scale != int(a.scale) or a.scale < 1:
        return None
    # (i + 0.5) / s - 0.5 is nearest to floor(i / s), and never half way.
    repeats = (transform, rounding) == ("asymmetric", "floor") or (
        transform == "half_pixel" and rounding.startswith("round")
    )
    return int(a.scale) if repeats else None


def _nearest_place(a: _Axis, index: Any, transform: str, rounding: str) -> tuple[Any, Any]:
    factor = _whole_factor(a, transform, rounding)
    if factor is not None:
        return tirx.floordiv(index, factor), tirx.const(True, "bool")
    position = _coordinate(a, index, transform)
    rounded = _ROUNDINGS[rounding](position).astype("int64")
    last = as_expression(a.source) - 1
    place = tirx.max(tirx.min(rounded, last), tirx.IntImm("int64", 0))
    return place, _inside(a, position)


_ROUNDINGS = {
    "floor": tirx.floor,
    "ceil": tirx.ceil,
    "round_prefer_floor": lambda x: tirx.ceil(x - tirx.const(0.5, "float32")),
    "round_prefer_ceil": lambda x: tirx.floor(x + tirx.const(0.5, "float32")),
}


def _inside(a: _Axis, position: Any) -> Any:
    return tirx.all(position >= _f(0), position <= as_expression(a.source).astype("float32") - _f(1))


def _f(value: Any) -> Expr:
    """A number or an expression as float32."""
    return value.astype("float32") if isinstance(value, Expr) else tirx.const(value, "float32")


def _coordinate(a: _Axis, index: Any, transform: str) -> Any:
    """The position in the input, in elements, of an output element along an axis."""
    i = index.astype("float32")
    scale = _f(a.scale)
    source, target = as_expression(a.source).astype("float32"), as_expression(a.target).astype("float32")
    one, half = _f(1), _f(0.5)
    if transform == "half_pixel":
        return (i + half) / scale - half
    if transform == "asymmetric":
        return i / scale
    if transform == "pytorch_half_pixel":
        return tirx.Select(target > one, (i + half) / scale - half, _f(0))
    if transform == "align_corners":
        # The specification's resized length is the scaled one, before it is rounded down.
        length = scale * source
        return tirx.Select(target > one, i * (source - one) / (length - one), _f(0))
    if transform == "half_pixel_symmetric":
        adjustment = target / (scale * source)
        return source / _f(2) * (one - adjustment) + (i + half) / scale - half
    if transform == "tf_crop_and_resize":
        spread = _f(a.end - a.start) * (source - one)
        centre = half * _f(a.start + a.end) * (source - one)
        along = _f(a.start) * (source - one) + i * spread / tirx.max(target - one, one)
        return tirx.Select(target > one, along, centre)
    raise InvalidModelError(f"the coordinate transformation '{transform}' does not exist")


def _interpolated(node: Node, x: Expr, axes: list[_Axis], mode: str, transform: str) -> Expr:
    """Interpolates along one axis after the other, the last one first (rows stay contiguous)."""
    outside = _extrapolation(node, transform)
    for a in axes:
        x = _interpolate_axis(node, x, a, mode, transform)
    if outside is None:
        return x
    dtype = node.builder.dtype(x)

    def compute(data: te.Tensor) -> te.Tensor:
        def element(*index: Any) -> Expr:
            inside = tirx.all(*(_inside(a, _coordinate(a, index[a.axis], transform)) for a in axes))
            return tirx.Select(inside, data(*index), tirx.const(outside, dtype))

        return tabulate(data.shape, element, name="resize_extrapolate")

    return node.te(compute, x, name="resize_extrapolate")


def _interpolate_axis(node: Node, x: Expr, a: _Axis, mode: str, transform: str) -> Expr:
    shape = list(node.builder.shape(x))
    shape[a.axis] = a.target
    dtype = node.builder.dtype(x)
    taps = _Taps(node, a, mode, transform)

    def compute(data: te.Tensor) -> te.Tensor:
        def along(index: Sequence[Any], place: Any) -> Expr:
            return data(*index[: a.axis], place, *index[a.axis + 1 :])

        if a.reach is not None and not isinstance(a.reach, int):
            return _averaged(taps, shape, along, dtype)

        def element(*index: Any) -> Expr:
            return taps.combine(index[a.axis], lambda place: along(index, place), dtype)

        return tabulate(shape, element, name=f"resize_{mode}")

    return node.te(compute, x, name=f"resize_{mode}")


def _averaged(
    taps: _Taps, shape: Sequence[Extent], along: Callable[[Sequence[Any], Any], Expr], dtype: str
) -> te.Tensor:
    """Averages of as many neighbours as only the run can tell."""
    a = taps.axis
    reach = 0 if a.reach is None else a.reach
    k = te.reduce_axis((0, as_expression(2 * reach)), name="k")
    j = te.reduce_axis((0, as_expression(2 * reach)), name="j")

    def term(*index: Any) -> Expr:
        place, weight = taps.tap(index[a.axis], k + 1 - reach)
        return te.sum(along(index, place) * weight.astype(dtype), axis=k)

    def share(i: Any) -> Expr:
        return te.sum(taps.tap(i, j + 1 - reach)[1].astype(dtype), axis=j)

    total, weights = tabulate(shape, term, name="total"), tabulate([a.target], share, name="weights")
    return tabulate(shape, lambda *i: total(*i) / weights(i[a.axis]), name="resize_average")


class _Taps:
    """The weighted neighbours along one axis that make one output element."""

    def __init__(self, node: Node, a: _Axis, mode: str, transform: str) -> None:
        self.axis = a
        self._cubic = mode == "cubic"
        self._transform = transform
        self._a = node.number("cubic_coeff_a", -0.75)
        self._exclude_outside = bool(node.integer("exclude_outside", 0))

    def combine(self, index: Any, read: Any, dtype: str) -> Expr:
        """The interpolated value at an output index."""
        taps = [self.tap(index, offset) for offset in self._offsets()]
        weights = [weight for _, weight in taps]
        total = sum(weights[1:], weights[0])
        terms = [read(place) * weight.astype(dtype) for place, weight in taps]
        value = sum(terms[1:], terms[0])
        normalized = self._exclude_outside or self.axis.reach is not None
        return value / total.astype(dtype) if normalized else value

    def tap(self, index: Any, offset: Any) -> tuple[Any, Any]:
        """The place of a neighbour of an output index, and its weight."""
        position = _coordinate(self.axis, index, self._transform)
        base = tirx.floor(position)
        place = base.astype("int64") + offset
        weight = self._weight(position - base, offset)
        last, zero = as_expression(self.axis.source) - 1, tirx.IntImm("int64", 0)
        if self._exclude_outside:
            weight = tirx.Select(tirx.all(place >= zero, place <= last), weight, _f(0))
        return tirx.max(tirx.min(place, last), zero), weight

    def _offsets(self) -> range:
        reach = 2 if self._cubic else 1
        if self.axis.reach is not None:
            reach = int(self.axis.reach)
        return range(1 - reach, reach + 1)

    def _weight(self, fraction: Any, offset: Any) -> Any:
        distance = tirx.abs(fraction - _f(offset))
        if self.axis.reach is not None:
            distance = distance * tirx.min(_f(self.axis.scale), _f(1))
        if not self._cubic:
            return tirx.max(_f(1) - distance, _f(0))
        a, d = _f(self._a), distance
        near = ((a + _f(2)) * d - (a + _f(3))) * d * d + _f(1)
        far = ((a * d - _f(5) * a) * d + _f(8) * a) * d - _f(4) * a
        return tirx.Select(d <= _f(1), near, tirx.Select(d < _f(2), far, _f(0)))
