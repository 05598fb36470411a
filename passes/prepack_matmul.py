"""Packs the constant right-hand sides of matrix multiplications into panels, at compile time."""

from __future__ import annotations

from functools import partial

import tvm
from tvm import ir, relax

from .compute import layout
from .compute.matmul import matmul_packed
from .constants import constant, constant_value
from .rewrite import CallRewriter, rewrite_calls


def prepack_matmul(mod: tvm.IRModule, block: int) -> tvm.IRModule:
    """The pass: ``matmul(x, W)`` with a constant W [K, N] reads W as [N / block, K, block] from now on."""
    return rewrite_calls(mod, {"relax.matmul": partial(_matmul, block=block)})


def _matmul(rewriter: CallRewriter, call: ir.Call, block: int) -> relax.Expr | None:
    data, weight = call.args[0], constant_value(call.args[1])
    shape = data.ty.shape
    if weight is None or weight.ndim != 2 or shape is None or len(shape) < 2:
        return None
    packed = constant(layout.pack_matmul_weight(weight, block))
    return rewriter.builder_.call_te(matmul_packed, data, packed, weight.shape[1])
