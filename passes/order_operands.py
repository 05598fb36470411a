"""Puts the constant operand of a commutative operator second, where other passes look for it."""

from __future__ import annotations

import tvm
from tvm import ir, relax

from .constants import constant_value
from .rewrite import CallRewriter, rewrite_calls

_COMMUTATIVE = ("relax.add", "relax.multiply", "relax.maximum", "relax.minimum")


def order_operands(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass: ``multiply(constant, x)`` becomes ``multiply(x, constant)``."""
    return rewrite_calls(mod, dict.fromkeys(_COMMUTATIVE, _constant_second))


def _constant_second(_rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
    first, second = call.args
    if constant_value(first) is None or constant_value(second) is not None:
        return None
    return ir.Call(call.op, [second, first], call.attrs)
