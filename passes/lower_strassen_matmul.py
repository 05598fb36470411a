"""Turns products with constant right-hand sides into Strassen's, where somebody says that it pays.

Stands before the packing of weights. The sums of the weights' quadrants are made here, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import tvm
from tvm import ir, relax

from .compute.strassen import strassen_matmul, transform_weight
from .constants import constant, constant_value
from .rewrite import OUT_ELEMENTWISE_FUSABLE, CallRewriter, rewrite_calls
from .tensor_types import element_type, static_shape


@dataclass(frozen=True)
class MatmulExtents:
    """The size of a product of [batch, rows, inner] and a constant [inner, columns]."""

    batch: int
    rows: int
    inner: int
    columns: int


ChooseStrassen = Callable[[MatmulExtents], bool]
"""Whether a product that Strassen's algorithm could compute shall go by it."""


def never_strassen(_extents: MatmulExtents) -> bool:
    """Chooses it for nothing."""
    return False


def lower_strassen_matmul(mod: tvm.IRModule, block: int, choose: ChooseStrassen) -> tvm.IRModule:
    """The pass: ``choose`` decides for every product of float32 whose quadrants are whole panels.

    Args:
        mod: the module.
        block: columns of a panel, a vector's lanes.
        choose: see ``ChooseStrassen``.
    """
    return rewrite_calls(mod, {"relax.matmul": partial(_lower, block=block, choose=choose)})


def _lower(rewriter: CallRewriter, call: ir.Call, block: int, choose: ChooseStrassen) -> relax.Expr | None:
    weight = constant_value(call.args[1])
    extents = _extents(call)
    if weight is None or extents is None or not _divisible(extents, block):
        return None
    if not choose(extents):
        return None
    return rewriter.builder_.call_te(
        strassen_matmul,
        call.args[0],
        constant(transform_weight(weight, block)),
        primfunc_name_hint="strassen_matmul",
        primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE},
    )


def _extents(call: ir.Call) -> MatmulExtents | None:
    """Of a product of float32 with a matrix, of extents that are known; else None."""
    data, weight = (static_shape(operand.ty) for operand in call.args)
    if data is None or weight is None or len(data) < 2 or len(weight) != 2:
        return None
    if any(element_type(operand) != "float32" for operand in call.args):
        return None
    *batch, rows, inner = data
    return MatmulExtents(math.prod(batch), rows, inner, weight[1])


def _divisible(extents: MatmulExtents, block: int) -> bool:
    """Whether the quadrants are alike, and vectors of them whole."""
    wide = 2 * block
    return extents.rows % 2 == 0 and extents.inner % wide == 0 and extents.columns % wide == 0
