"""Two-dimensional convolution on blocked layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

from tvm import te, tirx
from tvm.sym import Analyzer

from . import NARROW_LANES, TILE_SLACK, WORKLOAD
from .half_sums import HALF_SUMS, WindowTerms, window_terms
from .pairs import as_number, bits, load_pair, pair_product
from .widening import widen, widened

GEOMETRY = "relaxc.conv2d_geometry"
"""The attribute in which a kernel that is one convolution carries its geometry, for later passes."""


@dataclass(frozen=True)
class Conv2dGeometry:
    """The attributes of a convolution.

    Attributes:
        strides, dilation: (height, width).
        padding: (top, left, bottom, right).
        groups: the input and output channels are split into this many independent convolutions.
    """

    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    def output_extents(self, H: tirx.Expr, W: tirx.Expr, R: int, S: int) -> tuple[tirx.Expr, tirx.Expr]:
        """The output's height and width for an input of H x W and a kernel of R x S."""
        top, left, bottom, right = self.padding
        rows, columns = H + (top + bottom), W + (left + right)
        return (
            _windows(rows, (R - 1) * self.dilation[0] + 1, self.strides[0]),
            _windows(columns, (S - 1) * self.dilation[1] + 1, self.strides[1]),
        )

    def as_attribute(self) -> list[list[int]]:
        """For ``GEOMETRY``."""
        strides, padding, dilation, groups = astuple(self)
        return [list(strides), list(padding), list(dilation), [groups]]


def geometry_of(kernel: tirx.PrimFunc) -> Conv2dGeometry | None:
    """What the convolution that ``kernel`` is carries as ``GEOMETRY``; None for any other kernel."""
    attribute = kernel.attrs.get(GEOMETRY) if kernel.attrs else None
    if attribute is None:
        return None
    strides, (top, left, bottom, right), dilation, (groups,) = (map(int, part) for part in attribute)
    (stride_h, stride_w), (dilation_h, dilation_w) = strides, dilation
    return Conv2dGeometry((stride_h, stride_w), (top, left, bottom, right), (dilation_h, dilation_w), groups)


def _windows(extent: tirx.Expr, window: int, stride: int) -> tirx.Expr:
    """How many windows fit, in the one form that equal extents share: kernels are fused by its text."""
    return Analyzer().simplify(tirx.floordiv(extent - window, stride) + 1)


def conv2d_nchwc(x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry, half_terms: int = 1) -> te.Tensor:
    """Convolution with a blocked output.

    Args:
        x: [N, C/b, H, W, b], or [N, C, H, W] for a first layer with few channels.
        w: [O/v, R, S, I, v] with I = C / groups; O / groups must be a multiple of v where groups > 1. Or, for
            a blocked x in bfloat16, [O/v, R, S, I/2, v] of pairs (``pairs.py``).
        geometry: strides, padding, dilation, groups.
        half_terms: up to how many products of float16 are summed in float16, before float32 sums of those.

    Returns:
        [N, O/v, OH, OW, v].
    """
    Oo, R, S, I, v = w.shape  # noqa: E741 - the layout's own letters
    N, OH, OW = x.shape[0], *geometry.output_extents(x.shape[2], x.shape[3], int(R), int(S))
    flat = _is_flat(x, w, geometry)
    if flat and geometry.strides != (1, 1):
        x, geometry = _gather(x, geometry, OH, OW), replace(geometry, strides=(1, 1))
    terms = window_terms(int(R), int(S), int(I), half_terms) if half_terms > 1 else None
    padded = _pad(x, geometry, wide=terms is None)
    blocks_per_group = int(Oo) // geometry.groups
    (stride_h, stride_w), (dilation_h, dilation_w) = geometry.strides, geometry.dilation
    H, W = (1, OH * OW) if flat else (OH, OW)

    def product(place: Sequence[tirx.Expr], window: Sequence[tirx.Expr]) -> tirx.Expr:
        (n, o, h, w_, lane), (r, s, c) = place, window
        oh, ow = h, tirx.min(w_, W - 1)
        if flat:
            oh, ow = tirx.floordiv(ow, OW), tirx.floormod(ow, OW)
        channel = c if geometry.groups == 1 else tirx.floordiv(o, blocks_per_group) * I + c
        ih = oh * stride_h + r * dilation_h
        iw = ow * stride_w + s * dilation_w
        return _product(padded, (n, channel, ih, iw), w(o, r, s, c, lane))

    acc = _sums((N, Oo, H, W + TILE_SLACK, v), (R, S, I), product, terms)

    def cropped(n: tirx.Var, o: tirx.Var, h: tirx.Var, w_: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        return acc(n, o, 0, h * OW + w_, lane) if flat else acc(n, o, h, w_, lane)

    return te.compute((N, Oo, OH, OW, v), cropped, name="crop")


Product = Callable[[Sequence[tirx.Expr], Sequence[tirx.Expr]], tirx.Expr]


def _sums(
    shape: Sequence[tirx.Expr | int], window: Sequence[tirx.Expr], product: Product, terms: WindowTerms | None
) -> te.Tensor:
    """``product(place, window)`` summed over the window; by ``terms`` in float16 first, if given."""
    attributes = {WORKLOAD: "conv2d_nchwc"}
    lengths = (1, 1, 1) if terms is None else (terms.rows, terms.columns, terms.channels)
    steps = [extent // length for extent, length in zip(map(int, window), lengths, strict=True)]
    outer = [te.reduce_axis((0, extent), name) for extent, name in zip(steps, "rsc", strict=True)]
    if terms is None:

        def multiply(n: tirx.Var, o: tirx.Var, h: tirx.Var, w_: tirx.Var, lane: tirx.Var) -> tirx.Expr:
            return te.sum(product((n, o, h, w_, lane), outer), axis=outer)

        return te.compute(shape, multiply, name="conv2d_nchwc", attrs=attributes)
    inner = [te.reduce_axis((0, length), f"{name}_term") for length, name in zip(lengths, "rsc", strict=True)]

    def short(*i: tirx.Var) -> tirx.Expr:
        place = [step * n + term for step, n, term in zip(i[5:], lengths, inner, strict=True)]
        return te.sum(product(i[:5], place), axis=inner)

    sums = te.compute((*shape, *steps), short, name=HALF_SUMS)
    return te.compute(
        shape, lambda *i: te.sum(widen(sums(*i, *outer)), axis=outer), name="conv2d_nchwc", attrs=attributes
    )


def _is_flat(x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry) -> bool:
    """Whether each result reads one place of the input, its own: a tile may go over the end of a row.

    Where vectors are narrow, that is worth gathering such places from all over the input first.
    """
    _, R, S, _, v = w.shape
    return (
        (int(R), int(S)) == (1, 1)
        and (geometry.strides == (1, 1) or int(v) <= NARROW_LANES)
        and not any(geometry.padding)
        and all(isinstance(extent, tirx.IntImm) for extent in x.shape[2:4])
    )


def _gather(x: te.Tensor, geometry: Conv2dGeometry, OH: tirx.Expr, OW: tirx.Expr) -> te.Tensor:
    """The pixels of x that a window of one pixel visits, OH x OW."""
    down, right = geometry.strides

    def pixel(*index: tirx.Var) -> tirx.Expr:
        value = x(*index[:2], index[2] * down, index[3] * right, *index[4:])
        return bits(value) if str(x.dtype) == "bfloat16" else value

    return te.compute((*x.shape[:2], OH, OW, *x.shape[4:]), pixel, name="gather_pixels")


def depthwise_conv2d_nchwc(
    x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry, half_terms: int = 1
) -> te.Tensor:
    """Depthwise convolution: x [N, C/v, H, W, v], w [C/v, R, S, v]; returns [N, C/v, OH, OW, v].

    A window of up to ``half_terms`` products of float16 is summed in float16.
    """
    Co, R, S, v = w.shape
    N, OH, OW = x.shape[0], *geometry.output_extents(x.shape[2], x.shape[3], int(R), int(S))
    half = 1 < half_terms >= int(R) * int(S)
    padded = _pad(x, geometry, wide=not half)
    r, s = te.reduce_axis((0, R), "r"), te.reduce_axis((0, S), "s")
    (stride_h, stride_w), (dilation_h, dilation_w) = geometry.strides, geometry.dilation

    def multiply(n: tirx.Var, co: tirx.Var, oh: tirx.Var, ow: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        ih = oh * stride_h + r * dilation_h
        iw = tirx.min(ow, OW - 1) * stride_w + s * dilation_w
        value, weight = as_number(padded(n, co, ih, iw, lane)), w(co, r, s, lane)
        return te.sum(value * (weight if half else widen(weight)), axis=[r, s])

    acc = te.compute(
        (N, Co, OH, OW + TILE_SLACK, v),
        multiply,
        name="depthwise_conv2d_nchwc",
        attrs={WORKLOAD: "depthwise_conv2d_nchwc"},
    )
    return te.compute((N, Co, OH, OW, v), lambda *i: widen(acc(*i)), name="crop")


def _product(x: te.Tensor, place: tuple[tirx.Expr, ...], weight: tirx.Expr) -> tirx.Expr:
    """What is at ``place`` times ``weight``; where that is a pair, the channel counts pairs, too."""
    n, c, h, w = place
    if str(weight.ty.dtype) != "int32":
        value = _load(x, n, c, h, w)
        return value * (weight if value.ty.dtype == weight.ty.dtype else widen(weight))
    pairs = x.shape[4] // 2
    return pair_product(load_pair(x, [n, tirx.floordiv(c, pairs), h, w, tirx.floormod(c, pairs) * 2]), weight)


def _load(x: te.Tensor, n: tirx.Expr, c: tirx.Expr, h: tirx.Expr, w: tirx.Expr) -> tirx.Expr:
    if len(x.shape) == 4:
        return x(n, c, h, w)
    block = x.shape[4]
    return x(n, tirx.floordiv(c, block), h, w, tirx.floormod(c, block))


def _pad(x: te.Tensor, geometry: Conv2dGeometry, wide: bool = True) -> te.Tensor:
    """x with the zeros around it that ``geometry`` wants; ``wide`` makes float32 of float16."""
    top, left, bottom, right = geometry.padding
    if not any(geometry.padding):
        return widened(x) if wide else x
    H, W = x.shape[2], x.shape[3]
    narrow = str(x.dtype) == "bfloat16"

    def inside_or_zero(*index: tirx.Var) -> tirx.Expr:
        h, w = index[2] - top, index[3] - left
        inside = tirx.all(h >= 0, h < H, w >= 0, w < W)
        value = x(*index[:2], h, w, *index[4:])
        value = bits(value) if narrow else widen(value) if wide else value
        return tirx.if_then_else(inside, value, tirx.const(0, value.ty.dtype))

    shape = (*x.shape[:2], H + top + bottom, W + left + right, *x.shape[4:])
    return te.compute(shape, inside_or_zero, name="pad")
