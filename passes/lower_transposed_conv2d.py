"""Turns transposed convolutions into ordinary ones, followed by an interleaving of their channels.

With stride s, the outputs at positions q * s + i, for one i, are an ordinary convolution of the input with
every s-th tap of the kernel (Shi et al., "Is the deconvolution layer the same as a convolutional layer?",
2016). One convolution computes them for all i as channels of their own, and no zero is ever multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import tvm
from tvm import ir, relax, te, tirx

from .constants import constant, constant_value
from .rewrite import CallRewriter, rewrite_calls


def lower_transposed_conv2d(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass. Grouped and dilated ones, and those whose weights are not constant, stay as they are."""
    return rewrite_calls(mod, {"relax.nn.conv2d_transpose": _lower})


def _lower(rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
    attrs, weight = call.attrs, constant_value(call.args[1])
    dilated = any(int(d) != 1 for d in attrs.dilation)
    if weight is None or int(attrs.groups) != 1 or dilated or attrs.data_layout != "NCHW":
        return None
    strides = (int(attrs.strides[0]), int(attrs.strides[1]))
    phases = _phase_kernels(weight, strides)
    window = phases.shape[2:]
    padding = [window[0] - 1, window[1] - 1] * 2
    phased = rewriter.builder_.emit(relax.op.nn.conv2d(call.args[0], constant(phases), padding=padding))
    begin = (int(attrs.padding[0]), int(attrs.padding[1]))
    interleave = partial(_interleave, shape=list(call.ty.shape), strides=strides, begin=begin)
    return rewriter.builder_.call_te(interleave, phased, primfunc_name_hint="interleave_phases")


def _phase_kernels(weight: np.ndarray, strides: tuple[int, int]) -> np.ndarray:
    """[C, O, R, S] to [O * s * t, C, ceil(R / s), ceil(S / t)], taps reversed, missing ones zero."""
    C, O, R, S = weight.shape  # noqa: E741 - the layout's own letters
    s, t = strides
    rows, columns = -(-R // s), -(-S // t)
    padded = np.zeros((C, O, rows * s, columns * t), weight.dtype)
    padded[:, :, :R, :S] = weight
    taps = padded.reshape(C, O, rows, s, columns, t)[:, :, ::-1, :, ::-1, :]
    return taps.transpose(1, 3, 5, 0, 2, 4).reshape(O * s * t, C, rows, columns)


def _interleave(
    phased: te.Tensor, shape: Sequence[tirx.Expr], strides: tuple[int, int], begin: tuple[int, int]
) -> te.Tensor:
    """[N, O * s * t, Q, P] to ``shape``, [N, O, H, W]: from ``begin`` on, and zero behind the last phase."""
    (s, t), (top, left) = strides, begin

    def place(n: tirx.Var, o: tirx.Var, h: tirx.Var, w: tirx.Var) -> tirx.Expr:
        y, x = h + top, w + left
        channel = o * (s * t) + tirx.floormod(y, s) * t + tirx.floormod(x, t)
        row, column = tirx.floordiv(y, s), tirx.floordiv(x, t)
        inside = tirx.all(row < phased.shape[2], column < phased.shape[3])
        return tirx.if_then_else(inside, phased[n, channel, row, column], tirx.const(0, phased.dtype))

    return te.compute(shape, place, name="interleave_phases")
