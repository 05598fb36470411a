"""Signal processing: Fourier transforms, windows, mel filters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Expr

from ..branches import over_axes
from ..extents import Extent, as_expression
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate
from ..values import dtype_name


@converts("DFT")
def dft_by_attribute(node: Node) -> Expr:
    """Until opset 19 the axis is an attribute."""
    return _dft(node, node.axis("axis", 1, node.rank(0)))


@converts("DFT", since=20)
def dft(node: Node) -> Expr:
    rank = node.rank(0)
    if not node.has(2):
        return _dft(node, normalize_axis(-2, rank))
    return over_axes(node, 2, range(rank - 1), lambda axis: _dft(node, axis))


def _dft(node: Node, axis: int) -> Expr:
    """The transform along an axis as a product with a matrix of cosines and sines, in float64."""
    inverse, onesided = bool(node.integer("inverse", 0)), bool(node.integer("onesided", 0))
    shape = list(node.shape(0))
    to_real = inverse and onesided
    if node.has(1):
        length = node.extent_list(1)[0]
    else:
        # A spectrum of one entry is of a line of none; TVM would divide by that when compiling.
        full = node.extents.maximum(node.extents.simplify(2 * (shape[axis] - 1)), 1)
        length = full if to_real else shape[axis]
    taken = _half(node, length) if to_real else length
    front = [place for place in range(len(shape) - 1) if place != axis]
    data = node.emit(relax.op.permute_dims(node.tensor(0), [*front, axis, len(shape) - 1]))
    lines = node.extents.product(shape[place] for place in front)
    data = node.builder.reshape(data, [lines, shape[axis], shape[-1]])
    result = _transformed(node, data, (taken, length), inverse, onesided)
    tail = list(node.builder.shape(result))[1:]
    whole = node.builder.reshape(result, [*(shape[place] for place in front), *tail])
    order = [front.index(p) if p != axis else len(front) for p in range(len(shape) - 1)]
    moved = node.emit(relax.op.permute_dims(whole, [*order, len(shape) - 1]))
    return node.builder.cast(moved, node.dtype(0))


def _half(node: Node, length: Extent) -> Extent:
    return node.extents.simplify(node.extents.floor_divide(length, 2) + 1)


def _transformed(
    node: Node, data: Expr, lengths: tuple[Extent, Extent], inverse: bool, onesided: bool
) -> Expr:
    """[lines, n, 1 or 2] to [lines, frequencies, 2], or from half of a spectrum to [lines, length, 1].

    Args:
        lengths: how many entries are read (missing ones are zero), and the transform's length.
    """
    taken, length = lengths
    lines, given, parts = node.builder.shape(data)
    to_real = inverse and onesided
    results = _half(node, length) if onesided and not inverse else length
    n = as_expression(length)
    sign = 1.0 if inverse else -1.0

    # A tensor, because TVM's code generator fails on symbolic extents that become floats inside of loops.
    period = node.te(lambda: tabulate((1,), lambda _: n.astype("float64"), name="period"), name="period")

    def weight(k: Any) -> Expr:
        """How often an entry of half a spectrum counts in the whole one."""
        one, two = tirx.const(1, "float64"), tirx.const(2, "float64")
        alone = tirx.any(k == 0, k * 2 == n)
        return tirx.Select(alone, one, two) if to_real else one

    def compute(x: te.Tensor, size: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, as_expression(taken)), name="k")

        def angle(a: Any, b: Any) -> Expr:
            turns = tirx.floormod(a * b, n).astype("float64") / size(0)
            return turns * tirx.const(2 * math.pi * sign, "float64")

        def element(line: Any, frequency: Any, part: Any) -> Expr:
            inside = k < as_expression(given)
            zero = tirx.const(0, "float64")
            place = tirx.min(k, as_expression(given) - 1)
            real = tirx.Select(inside, x(line, place, 0).astype("float64"), zero)
            imaginary = zero if parts == 1 else tirx.Select(inside, x(line, place, 1).astype("float64"), zero)
            c, s = tirx.cos(angle(k, frequency)), tirx.sin(angle(k, frequency))
            value = tirx.Select(part == 0, real * c - imaginary * s, real * s + imaginary * c)
            return te.sum(value * weight(k), axis=k)

        target = (lines, results, 1 if to_real else 2)
        total = tabulate(target, element, name="fourier_sum")
        scale = tirx.const(1, "float64") / size(0) if inverse else tirx.const(1, "float64")
        return tabulate(target, lambda *i: total(*i) * scale, name="fourier")

    return node.te(compute, data, period, name="fourier")


@converts("STFT")
def stft(node: Node) -> Expr:
    """Transforms of overlapping frames: [batch, frames, frequencies, 2]."""
    signal = node.builder.bound(node.tensor(0))
    shape = list(node.builder.shape(signal))
    if len(shape) == 2:
        shape.append(1)
        signal = node.builder.reshape(signal, shape)
    batch, samples, parts = shape
    step = node.extent_list(1)[0]
    length = node.extent_list(3)[0] if node.has(3) else node.shape(2)[0]
    frames = node.extents.floor_divide(node.extents.simplify(samples - length), step)
    frames = node.extents.simplify(frames + 1)
    window = [node.tensor(2)] if node.has(2) else []

    def cut(x: te.Tensor, *weights: te.Tensor) -> te.Tensor:
        def element(line: Any, place: Any, part: Any) -> Expr:
            frame = tirx.floormod(line, as_expression(frames))
            value = x(tirx.floordiv(line, as_expression(frames)), frame * step + place, part)
            value = value.astype("float64")
            return value * weights[0](place).astype("float64") if weights else value

        return tabulate((node.extents.product([batch, frames]), length, parts), element, name="frames")

    data = node.te(cut, signal, *window, name="frames")
    result = _transformed(node, data, (length, length), False, bool(node.integer("onesided", 1)))
    spectrum = node.builder.reshape(result, [batch, frames, *node.builder.shape(result)[1:]])
    return node.builder.cast(spectrum, node.dtype(0))


_WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 1 - 25 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@converts(*_WINDOWS)
def window(node: Node) -> Expr:
    """a - b cos(2 pi i / n) + c cos(4 pi i / n), n one less for a symmetric window."""
    a, b, c = _WINDOWS[node.op_type]
    size = node.extent_list(0)[0]
    dtype = dtype_name(node.integer("output_datatype", 1))
    period = as_expression(size) - (0 if node.integer("periodic", 1) else 1)

    def element(i: Any) -> Expr:
        angle = i.astype("float64") * tirx.const(2 * math.pi, "float64") / period.astype("float64")
        first = tirx.const(a, "float64") - tirx.const(b, "float64") * tirx.cos(angle)
        return (first + tirx.const(c, "float64") * tirx.cos(angle * tirx.const(2, "float64"))).astype(dtype)

    return node.te(lambda: tabulate((size,), element, name="window"), name="window")


@converts("MelWeightMatrix")
def mel_weight_matrix(node: Node) -> Expr:
    """Triangular filters, evenly spaced on the mel scale: [dft_length // 2 + 1, num_mel_bins]."""
    bands, length = node.extent_list(0)[0], node.extent_list(1)[0]
    dtype = dtype_name(node.integer("output_datatype", 1))
    scalars = [node.builder.reshape(node.builder.cast(node.tensor(i), "float64"), ()) for i in (2, 3, 4)]
    results = _half(node, length)

    def compute(rate: te.Tensor, low: te.Tensor, high: te.Tensor) -> te.Tensor:
        edge = _mel_edges(rate(), low(), high(), as_expression(bands), as_expression(length))

        def element(f: Any, band: Any) -> Expr:
            lower, centre, upper = (edge(band + k) for k in range(3))
            one, zero = tirx.const(1, "float64"), tirx.const(0, "float64")
            rise = tirx.max(centre - lower, 1).astype("float64")
            fall = tirx.max(upper - centre, 1).astype("float64")
            rising = (f - lower).astype("float64") / rise
            falling = (upper - f).astype("float64") / fall
            after = tirx.Select(tirx.all(f >= centre, f < upper), falling, zero)
            before = tirx.Select(tirx.all(f >= lower, f < centre), rising, after)
            peak = tirx.all(f == centre, lower == centre)
            return tirx.Select(peak, one, tirx.Select(f == centre, one, before)).astype(dtype)

        return tabulate((results, bands), element, name="mel_weights")

    return node.te(compute, *scalars, name="mel_weights")


def _mel_edges(rate: Any, low: Any, high: Any, bands: Expr, length: Expr) -> Callable[[Any], Expr]:
    """The bin of the i-th edge of the filters."""

    def c(value: float) -> Expr:
        return tirx.const(value, "float64")

    def mel(hertz: Any) -> Expr:
        return c(2595) * tirx.log10(c(1) + hertz / c(700))

    def edge(i: Any) -> Expr:
        step = (mel(high) - mel(low)) / (bands + 2).astype("float64")
        hertz = c(700) * (tirx.pow(c(10), (i.astype("float64") * step + mel(low)) / c(2595)) - c(1))
        return tirx.floor((length + 1).astype("float64") * hertz / rate).astype("int64")

    return edge
