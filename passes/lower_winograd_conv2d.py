"""Turns direct convolutions with windows of 3 x 3 into Winograd's, where a cost model says that it pays.

Stands behind the assignment of layouts, on kernels that are marked with their geometry. The filters are
transformed here, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import tvm
import tvm_ffi
from tvm import ir, relax, tirx
from tvm.sym import Analyzer

from .compute import winograd
from .compute.conv2d import Conv2dGeometry, geometry_of
from .compute.winograd import Tiling
from .constants import constant, constant_value
from .rewrite import OUT_ELEMENTWISE_FUSABLE, CallRewriter, rewrite_calls
from .tensor_types import element_type


@dataclass(frozen=True)
class Conv2dExtents:
    """The size of a convolution with a window of 3 x 3.

    Attributes:
        batch: pictures.
        channels: input channels.
        out_blocks: output channels, in vectors.
        height, width: the output's extents.
        guessed: whether some of these are symbolic. Then they are what they would be for one picture whose
            sides are ``LIKELY_SIDE``.
    """

    batch: int
    channels: int
    out_blocks: int
    height: int
    width: int
    guessed: bool = False


LIKELY_SIDE = 320
"""Of a picture, in pixels: what symbolic dimensions of a model stand for, where a size must be guessed."""


ChooseTiling = Callable[[Conv2dExtents], Tiling | None]
"""How the output of a convolution is cut into tiles; None where direct convolution is the better choice."""


def always_direct(_extents: Conv2dExtents) -> Tiling | None:
    """Chooses Winograd for nothing."""
    return None


def lower_winograd_conv2d(mod: tvm.IRModule, choose: ChooseTiling) -> tvm.IRModule:
    """The pass: ``choose`` decides for every convolution that Winograd's method could compute."""
    return rewrite_calls(mod, {"relax.call_tir": partial(_lower, choose=choose)})


def _lower(rewriter: CallRewriter, call: ir.Call, choose: ChooseTiling) -> relax.Expr | None:
    kernel = rewriter.builder_.get()[call.args[0]]
    geometry = geometry_of(kernel) if isinstance(kernel, tirx.PrimFunc) else None
    if geometry is None:
        return None
    data, weight, *_ = call.args[1].fields  # and the parts of compound symbolic extents
    filters = constant_value(weight)
    if filters is None or not _applicable(data, filters, geometry):
        return None
    tiling = choose(_extents(call, filters))
    if tiling is None:
        return None
    compute = partial(winograd.winograd_conv2d_nchwc, tiling=tiling, padding=geometry.padding)
    return rewriter.builder_.call_te(
        compute,
        data,
        constant(winograd.transform_filters(filters, tiling.tile)),
        primfunc_name_hint="winograd_conv2d_nchwc",
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE},
    )


def _applicable(data: relax.Expr, filters: np.ndarray, geometry: Conv2dGeometry) -> bool:
    return (
        data.ty.ndim == 5
        and filters.dtype == np.float32
        and element_type(data) == "float32"
        and filters.shape[1:3] == (winograd.WINDOW, winograd.WINDOW)
        and (geometry.strides, geometry.dilation, geometry.groups) == ((1, 1), (1, 1), 1)
    )


def _extents(call: ir.Call, filters: np.ndarray) -> Conv2dExtents:
    batch, out_blocks, height, width, _ = call.ty.shape
    guessed = not all(isinstance(extent, tirx.IntImm) for extent in (batch, height, width))
    return Conv2dExtents(
        int(batch) if isinstance(batch, tirx.IntImm) else 1,
        filters.shape[3],
        int(out_blocks),
        _likely(height),
        _likely(width),
        guessed,
    )


def _likely(extent: tirx.Expr) -> int:
    """``extent`` for a picture of a likely size."""
    side = tirx.const(LIKELY_SIDE, extent.ty.dtype)
    value = Analyzer().simplify(tvm_ffi.structural_map(extent, (tirx.Var, lambda _variable: side)))
    return int(value) if isinstance(value, tirx.IntImm) else LIKELY_SIDE
