"""Turns transposed convolutions into ordinary ones, followed by an interleaving of their channels.

With stride s, the outputs at positions q * s + i, for one i, are an ordinary convolution of the input with
every s-th tap of the kernel (Shi et al., "Is the deconvolution layer the same as a convolutional layer?",
2016). One convolution computes them for all i, the phases, as channels of their own, and no zero is ever
multiplied.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import tvm
from tvm import ir, relax

from .compute.phases import PHASES, Phases, interleave_phases
from .constants import constant, constant_value
from .rewrite import CallRewriter, rewrite_calls

MOST_PADDING = 1.5
"""How many times the channels of a phase may grow, so that phases begin with blocks of their own."""


def lower_transposed_conv2d(mod: tvm.IRModule, block: int = 1) -> tvm.IRModule:
    """The pass. Grouped and dilated ones, and those whose weights are not constant, stay as they are.

    ``block`` is the number of channels in a block of the layouts that are assigned later.
    """
    return rewrite_calls(mod, {"relax.nn.conv2d_transpose": partial(_lower, block=block)})


def _lower(rewriter: CallRewriter, call: ir.Call, block: int) -> relax.Expr | None:
    attrs, weight = call.attrs, constant_value(call.args[1])
    dilated = any(int(d) != 1 for d in attrs.dilation)
    if weight is None or int(attrs.groups) != 1 or dilated or attrs.data_layout != "NCHW":
        return None
    strides = (int(attrs.strides[0]), int(attrs.strides[1]))
    kernels = _phase_kernels(weight, strides, _padded(weight.shape[1], block))
    window = kernels.shape[2:]
    padding = [window[0] - 1, window[1] - 1] * 2
    phased = rewriter.builder_.emit(relax.op.nn.conv2d(call.args[0], constant(kernels), padding=padding))
    begin = (int(attrs.padding[0]), int(attrs.padding[1]))
    phases = Phases(strides, begin, kernels.shape[0] // (strides[0] * strides[1]))
    return rewriter.builder_.call_te(
        partial(interleave_phases, phases=phases, shape=list(call.ty.shape)),
        phased,
        primfunc_name_hint="interleave_phases",
        primfunc_attrs={PHASES: phases.as_attribute()},
    )


def _padded(channels: int, block: int) -> int:
    whole = -(-channels // block) * block
    return whole if whole <= MOST_PADDING * channels else channels


def _phase_kernels(weight: np.ndarray, strides: tuple[int, int], channels: int) -> np.ndarray:
    """[C, O, R, S] to [s * t * channels, C, ceil(R / s), ceil(S / t)], phase after phase.

    Taps are reversed; missing ones, and channels from O on, are zero.
    """
    C, O, R, S = weight.shape  # noqa: E741 - the layout's own letters
    s, t = strides
    rows, columns = -(-R // s), -(-S // t)
    padded = np.zeros((C, channels, rows * s, columns * t), weight.dtype)
    padded[:, :O, :R, :S] = weight
    taps = padded.reshape(C, channels, rows, s, columns, t)[:, :, ::-1, :, ::-1, :]
    return taps.transpose(3, 5, 1, 0, 2, 4).reshape(s * t * channels, C, rows, columns)
