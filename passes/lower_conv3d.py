"""Turns three-dimensional convolutions into two-dimensional ones.

The slices of the input that an output slice depends on are put side by side as channels of one picture, and
output slices become the pictures of a batch. So three dimensions have all that two have: blocked layouts,
packed weights, Winograd's method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
from tvm import ir, relax, te, tirx

from .constants import constant, constant_value
from .rewrite import CallRewriter, rewrite_calls


@dataclass(frozen=True)
class DepthWindow:
    """What a convolution does along the depth.

    Attributes:
        taps: slices that an output slice depends on.
        stride, dilation: in slices.
        padding: slices of zeros before the first.
        outputs: output slices of a picture.
    """

    taps: int
    stride: int
    dilation: int
    padding: int
    outputs: int


def lower_conv3d(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass. Grouped ones, unknown depths, and weights that are not constant stay as they are."""
    return rewrite_calls(mod, {"relax.nn.conv3d": _lower})


def _lower(rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
    attrs, weight = call.attrs, constant_value(call.args[1])
    N, O, OD, OH, OW = call.ty.shape  # noqa: E741 - the layout's own letters
    plain = (attrs.data_layout, attrs.kernel_layout, int(attrs.groups)) == ("NCDHW", "OIDHW", 1)
    if weight is None or not plain or not isinstance(OD, tirx.IntImm):
        return None
    strides, dilation, padding = (
        [int(value) for value in values] for values in (attrs.strides, attrs.dilation, attrs.padding)
    )
    window = DepthWindow(weight.shape[2], strides[0], dilation[0], padding[0], int(OD))
    pictures = rewriter.builder_.call_te(
        partial(_gather_slices, window=window), call.args[0], primfunc_name_hint="gather_slices"
    )
    convolved = relax.op.nn.conv2d(
        rewriter.builder_.emit(pictures),
        constant(_weight_of_slices(weight)),
        strides=strides[1:],
        padding=[*padding[1:3], *padding[4:6]],
        dilation=dilation[1:],
    )
    by_slice = relax.op.reshape(rewriter.builder_.emit(convolved), [N, OD, O, OH, OW])
    return relax.op.permute_dims(rewriter.builder_.emit(by_slice), [0, 2, 1, 3, 4])


def _weight_of_slices(weight: np.ndarray) -> np.ndarray:
    """[O, I, D, R, S] to [O, D * I, R, S]."""
    O, I, D, R, S = weight.shape  # noqa: E741 - the layout's own letters
    return np.ascontiguousarray(weight.transpose(0, 2, 1, 3, 4).reshape(O, D * I, R, S))


def _gather_slices(x: te.Tensor, window: DepthWindow) -> te.Tensor:
    """[N, C, D, H, W] to [N * outputs, taps * C, H, W]; zeros lie around the slices."""
    N, C, D, H, W = x.shape

    def source(picture: tirx.Var, channel: tirx.Var, h: tirx.Var, w: tirx.Var) -> tirx.Expr:
        n, output = tirx.floordiv(picture, window.outputs), tirx.floormod(picture, window.outputs)
        tap, c = tirx.floordiv(channel, C), tirx.floormod(channel, C)
        d = output * window.stride + tap * window.dilation - window.padding
        return tirx.if_then_else(tirx.all(d >= 0, d < D), x(n, c, d, h, w), tirx.const(0, x.dtype))

    return te.compute((N * window.outputs, window.taps * C, H, W), source, name="gather_slices")
