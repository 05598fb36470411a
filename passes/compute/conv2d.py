"""Two-dimensional convolution on blocked layouts."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from tvm import te, tirx
from tvm.sym import Analyzer

from . import NARROW_LANES, TILE_SLACK, WORKLOAD
from .pairs import as_number, bits, load_pair, pair_product

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


def conv2d_nchwc(x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry) -> te.Tensor:
    """Convolution with a blocked output.

    Args:
        x: [N, C/b, H, W, b], or [N, C, H, W] for a first layer with few channels.
        w: [O/v, R, S, I, v] with I = C / groups; O / groups must be a multiple of v where groups > 1. Or, for
            a blocked x in bfloat16, [O/v, R, S, I/2, v] of pairs (``pairs.py``).
        geometry: strides, padding, dilation, groups.

    Returns:
        [N, O/v, OH, OW, v].
    """
    Oo, R, S, I, v = w.shape  # noqa: E741 - the layout's own letters
    N, OH, OW = x.shape[0], *geometry.output_extents(x.shape[2], x.shape[3], int(R), int(S))
    flat = _is_flat(x, w, geometry)
    if flat and geometry.strides != (1, 1):
        x, geometry = _gather(x, geometry, OH, OW), replace(geometry, strides=(1, 1))
    padded = _pad(x, geometry)
    blocks_per_group = int(Oo) // geometry.groups
    r, s, c = (te.reduce_axis((0, extent), name) for extent, name in ((R, "r"), (S, "s"), (I, "c")))
    (stride_h, stride_w), (dilation_h, dilation_w) = geometry.strides, geometry.dilation
    H, W = (1, OH * OW) if flat else (OH, OW)

    def multiply(n: tirx.Var, o: tirx.Var, h: tirx.Var, w_: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        oh, ow = h, tirx.min(w_, W - 1)
        if flat:
            oh, ow = tirx.floordiv(ow, OW), tirx.floormod(ow, OW)
        channel = c if geometry.groups == 1 else tirx.floordiv(o, blocks_per_group) * I + c
        ih = oh * stride_h + r * dilation_h
        iw = ow * stride_w + s * dilation_w
        return te.sum(_product(padded, (n, channel, ih, iw), w(o, r, s, c, lane)), axis=[r, s, c])

    acc = te.compute(
        (N, Oo, H, W + TILE_SLACK, v), multiply, name="conv2d_nchwc", attrs={WORKLOAD: "conv2d_nchwc"}
    )

    def cropped(n: tirx.Var, o: tirx.Var, h: tirx.Var, w_: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        return acc(n, o, 0, h * OW + w_, lane) if flat else acc(n, o, h, w_, lane)

    return te.compute((N, Oo, OH, OW, v), cropped, name="crop")


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


def depthwise_conv2d_nchwc(x: te.Tensor, w: te.Tensor, geometry: Conv2dGeometry) -> te.Tensor:
    """Depthwise convolution: x [N, C/v, H, W, v], w [C/v, R, S, v]; returns [N, C/v, OH, OW, v]."""
    Co, R, S, v = w.shape
    N, OH, OW = x.shape[0], *geometry.output_extents(x.shape[2], x.shape[3], int(R), int(S))
    padded = _pad(x, geometry)
    r, s = te.reduce_axis((0, R), "r"), te.reduce_axis((0, S), "s")
    (stride_h, stride_w), (dilation_h, dilation_w) = geometry.strides, geometry.dilation

    def multiply(n: tirx.Var, co: tirx.Var, oh: tirx.Var, ow: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        ih = oh * stride_h + r * dilation_h
        iw = tirx.min(ow, OW - 1) * stride_w + s * dilation_w
        value = tirx.Cast(w.dtype, as_number(padded(n, co, ih, iw, lane)))
        return te.sum(value * w[co, r, s, lane], axis=[r, s])

    acc = te.compute(
        (N, Co, OH, OW + TILE_SLACK, v),
        multiply,
        name="depthwise_conv2d_nchwc",
        attrs={WORKLOAD: "depthwise_conv2d_nchwc"},
    )
    return te.compute((N, Co, OH, OW, v), lambda *i: acc(*i), name="crop")


def _product(x: te.Tensor, place: tuple[tirx.Expr, ...], weight: tirx.Expr) -> tirx.Expr:
    """What is at ``place`` times ``weight``; where that is a pair, the channel counts pairs, too."""
    n, c, h, w = place
    if str(weight.ty.dtype) != "int32":
        return _load(x, n, c, h, w) * weight
    pairs = x.shape[4] // 2
    return pair_product(load_pair(x, [n, tirx.floordiv(c, pairs), h, w, tirx.floormod(c, pairs) * 2]), weight)


def _load(x: te.Tensor, n: tirx.Expr, c: tirx.Expr, h: tirx.Expr, w: tirx.Expr) -> tirx.Expr:
    if len(x.shape) == 4:
        return x[n, c, h, w]
    block = x.shape[4]
    return x[n, tirx.floordiv(c, block), h, w, tirx.floormod(c, block)]


def _pad(x: te.Tensor, geometry: Conv2dGeometry) -> te.Tensor:
    top, left, bottom, right = geometry.padding
    if not any(geometry.padding):
        return x
    H, W = x.shape[2], x.shape[3]
    narrow = str(x.dtype) == "bfloat16"

    def inside_or_zero(*index: tirx.Var) -> tirx.Expr:
        h, w = index[2] - top, index[3] - left
        inside = tirx.all(h >= 0, h < H, w >= 0, w < W)
        value = x(*index[:2], h, w, *index[4:])
        value = bits(value) if narrow else value
        return tirx.if_then_else(inside, value, tirx.const(0, value.ty.dtype))

    shape = (*x.shape[:2], H + top + bottom, W + left + right, *x.shape[4:])
    return te.compute(shape, inside_or_zero, name="pad")
