"""Resize and Upsample: interpolation along any axes, one axis after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Axis:
    """How one axis is resampled.

    Attributes:
        scale: output extent / input extent as the node states it (float or float32 expression).
        start, end: the region of interest, relative to the extent.
    """

    axis: int
    source: Extent
    target: Extent
    scale: Any
    start: float = 0.0
    end: float = 1.0


@converts("Upsample")
def upsample(node: Node) -> Expr:
    scales = list(node.numbers("scales")) if node.has_attribute("scales") else node.constant(1).tolist()
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
    for index in (2, 3):
        if node.integer("antialias", 0) and node.has(index) and not node.is_shape_like(index):
            raise node.static_required(index)  # the scale decides how many neighbours are averaged
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
    """Run-time scales as expressions: the bits of each, a positive float32, are a symbolic dimension."""
    count = node.shape(index)[0]

    def bits_of(scale: te.Tensor) -> te.Tensor:
        def element(i: Any) -> Expr:
            return tirx.reinterpret("uint32", scale(i)).astype("int64")

        return tabulate((count,), element, name="scale_bits")

    bits = node.te(bits_of, node.tensor(index), name="scale_bits")
    return [
        tirx.reinterpret("float32", as_expression(extent).astype("uint32"))
        for extent in node.builder.read_extents(bits, f"{node.outputs[0]}_scale")
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

    def compute() -> te.Tensor:
        product = as_expression(extent).astype("float32") * scale
        return tabulate((1,), lambda _: tirx.floor(product).astype("int64"), name="scaled_extent")

    return node.builder.read_extents(node.te(compute, name="scaled_extent"), node.outputs[0])[0]


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
    if not all(isinstance(e, int) for e in [*sizes, *(shape[axis] for axis in chosen)]):
        if not node.is_shape_like(3):
            raise node.static_required(3)
        raise InvalidModelError("keep_aspect_ratio_policy needs known extents; bind them with shapes")
    ratios = [size / shape[axis] for axis, size in zip(chosen, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [_Axis(axis, shape[axis], int(np.floor(scale * shape[axis] + 0.5)), scale) for axis in chosen]


def _scale(node: Node, source: Extent, target: Extent) -> Any:
    """target / source; a number where the quotient is known although the extents are not."""
    if isinstance(source, int) and isinstance(target, int):
        return target / source if source else 1.0
    quotient = node.extents.floor_divide(target, source)
    if isinstance(quotient, int) and node.extents.equal(node.extents.simplify(quotient * source), target):
        return float(quotient)
    return as_expression(target).astype("float32") / as_expression(source).astype("float32")


def _with_region(node: Node, axes: list[_Axis]) -> list[_Axis]:
    region = node.constant(1).reshape(-1)
    count = len(axes)
    return [
        _Axis(a.axis, a.source, a.target, a.scale, float(region[position]), float(region[position + count]))
        for position, a in enumerate(axes)
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


def _f(value: float) -> Expr:
    return tirx.const(value, "float32")


def _coordinate(a: _Axis, index: Any, transform: str) -> Any:
    """The position in the input, in elements, of an output element along an axis."""
    i = index.astype("float32")
    scale = _f(a.scale) if isinstance(a.scale, int | float) else a.scale
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
        def element(*index: Any) -> Expr:
            def read(place: Any) -> Expr:
                return data(*index[: a.axis], place, *index[a.axis + 1 :])

            return taps.combine(index[a.axis], read, dtype)

        return tabulate(shape, element, name=f"resize_{mode}")

    return node.te(compute, x, name=f"resize_{mode}")


class _Taps:
    """The weighted neighbours along one axis that make one output element."""

    def __init__(self, node: Node, a: _Axis, mode: str, transform: str) -> None:
        self._axis = a
        self._cubic = mode == "cubic"
        self._transform = transform
        self._a = node.number("cubic_coeff_a", -0.75)
        self._exclude_outside = bool(node.integer("exclude_outside", 0))
        self._antialias = (
            bool(node.integer("antialias", 0)) and isinstance(a.scale, int | float) and a.scale < 1
        )

    def combine(self, index: Any, read: Any, dtype: str) -> Expr:
        """The interpolated value at an output index."""
        position = _coordinate(self._axis, index, self._transform)
        base = tirx.floor(position)
        fraction = position - base
        offsets = self._offsets()
        weights = [self._weight(fraction, offset) for offset in offsets]
        places = [base.astype("int64") + offset for offset in offsets]
        last = as_expression(self._axis.source) - 1
        zero = tirx.IntImm("int64", 0)
        if self._exclude_outside:
            inside = [tirx.all(place >= zero, place <= last) for place in places]
            weights = [tirx.Select(i, w, _f(0)) for i, w in zip(inside, weights, strict=True)]
        total = sum(weights[1:], weights[0])
        value = None
        for place, weight in zip(places, weights, strict=True):
            term = read(tirx.max(tirx.min(place, last), zero)) * weight.astype(dtype)
            value = term if value is None else value + term
        normalized = self._exclude_outside or self._antialias
        return value / total.astype(dtype) if normalized else value

    def _offsets(self) -> range:
        reach = 2 if self._cubic else 1
        if self._antialias:
            reach = int(np.ceil(reach / float(self._axis.scale)))
        return range(1 - reach, reach + 1)

    def _weight(self, fraction: Any, offset: int) -> Any:
        distance = tirx.abs(fraction - _f(offset))
        if self._antialias:
            distance = distance * _f(float(self._axis.scale))
        if not self._cubic:
            return tirx.max(_f(1) - distance, _f(0))
        a, d = _f(self._a), distance
        near = ((a + _f(2)) * d - (a + _f(3))) * d * d + _f(1)
        far = ((a * d - _f(5) * a) * d + _f(8) * a) * d - _f(4) * a
        return tirx.Select(d <= _f(1), near, tirx.Select(d < _f(2), far, _f(0)))
