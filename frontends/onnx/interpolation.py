"""Interpolation along one axis: where an output element lies in the input, and which neighbours make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr

from ...runtime.errors import InvalidModelError
from .extents import Extent, as_expression
from .node import Node
from .tabulate import tabulate


@dataclass(frozen=True)
class ResampledAxis:
    """How one axis is resampled.

    Attributes:
        scale: output extent / input extent as the node states it (a float or an expression).
        start, end: the region of interest, relative to the extent (a float or an expression).
        reach: half of the number of neighbours that an anti-aliased element averages, else None.
        real: the type in which positions and weights are computed.
    """

    axis: int
    source: Extent
    target: Extent
    scale: Any
    start: Any = 0.0
    end: Any = 1.0
    reach: Extent | None = None
    real: str = "float32"

    def number(self, value: Any) -> Expr:
        """A number, an expression or an extent in the type of positions."""
        return value.astype(self.real) if isinstance(value, Expr) else tirx.const(value, self.real)


def is_inside(a: ResampledAxis, position: Any) -> Any:
    """Whether a position is one of the input."""
    return tirx.all(position >= a.number(0), position <= a.number(a.source) - a.number(1))


def coordinate(a: ResampledAxis, index: Any, transform: str) -> Any:
    """The position in the input, in elements, of an output element along an axis."""
    i = a.number(index)
    scale = a.number(a.scale)
    source, target = a.number(a.source), a.number(a.target)
    zero, one, half = a.number(0), a.number(1), a.number(0.5)
    if transform == "half_pixel":
        return (i + half) / scale - half
    if transform == "asymmetric":
        return i / scale
    if transform == "pytorch_half_pixel":
        return tirx.Select(target > one, (i + half) / scale - half, zero)
    if transform == "align_corners":
        # The specification's resized length is the scaled one, before it is rounded down.
        length = scale * source
        return tirx.Select(target > one, i * (source - one) / (length - one), zero)
    if transform == "half_pixel_symmetric":
        adjustment = target / (scale * source)
        return source / a.number(2) * (one - adjustment) + (i + half) / scale - half
    if transform == "tf_crop_and_resize":
        spread = a.number(a.end - a.start) * (source - one)
        centre = half * a.number(a.start + a.end) * (source - one)
        along = a.number(a.start) * (source - one) + i * spread / tirx.max(target - one, one)
        return tirx.Select(target > one, along, centre)
    raise InvalidModelError(f"the coordinate transformation '{transform}' does not exist")


def interpolate(node: Node, x: Expr, a: ResampledAxis, mode: str, transform: str) -> Expr:
    """The tensor resampled along an axis; ``mode`` is linear or cubic, ``transform`` as the node names it."""
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

    def __init__(self, node: Node, a: ResampledAxis, mode: str, transform: str) -> None:
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
        position = coordinate(self.axis, index, self._transform)
        base = tirx.floor(position)
        place = base.astype("int64") + offset
        weight = self._weight(position - base, offset)
        last, zero = as_expression(self.axis.source) - 1, tirx.IntImm("int64", 0)
        if self._exclude_outside:
            weight = tirx.Select(tirx.all(place >= zero, place <= last), weight, self.axis.number(0))
        return tirx.max(tirx.min(place, last), zero), weight

    def _offsets(self) -> range:
        reach = 2 if self._cubic else 1
        if self.axis.reach is not None:
            reach = int(self.axis.reach)
        return range(1 - reach, reach + 1)

    def _weight(self, fraction: Any, offset: Any) -> Any:
        number = self.axis.number
        distance = tirx.abs(fraction - number(offset))
        if self.axis.reach is not None:
            distance = distance * tirx.min(number(self.axis.scale), number(1))
        if not self._cubic:
            return tirx.max(number(1) - distance, number(0))
        a, d = number(self._a), distance
        near = ((a + number(2)) * d - (a + number(3))) * d * d + number(1)
        far = ((a * d - number(5) * a) * d + number(8) * a) * d - number(4) * a
        return tirx.Select(d <= number(1), near, tirx.Select(d < number(2), far, number(0)))
