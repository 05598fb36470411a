"""Maximum pooling with a small window, as an expression of all its elements: nothing is stored in between."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import te, tirx

LARGEST_WINDOW = 25
"""Elements above which the expression would grow too long."""


@dataclass(frozen=True)
class PoolWindow:
    """A window over height and width: (height, width) pairs, and padding as (top, left)."""

    size: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]


def max_pool2d(x: te.Tensor, window: PoolWindow, shape: Sequence[tirx.Expr]) -> te.Tensor:
    """x [N, C, H, W] or [N, C/b, H, W, b] to ``shape``; computed in float32, whatever x is."""
    H, W = x.shape[2], x.shape[3]
    lowest = tirx.min_value("float32")

    def largest(n: tirx.Var, c: tirx.Var, oh: tirx.Var, ow: tirx.Var, *lane: tirx.Var) -> tirx.Expr:
        result = lowest
        for r, s in itertools.product(*map(range, window.size)):
            h = oh * window.strides[0] + r * window.dilation[0] - window.padding[0]
            w = ow * window.strides[1] + s * window.dilation[1] - window.padding[1]
            inside = tirx.all(h >= 0, h < H, w >= 0, w < W)
            value = tirx.Cast("float32", x(n, c, h, w, *lane))
            result = tirx.max(result, tirx.if_then_else(inside, value, lowest))
        return tirx.Cast(x.dtype, result)

    return te.compute(tuple(shape), largest, name="max_pool2d")
