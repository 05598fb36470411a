"""Replaces division by constants, which takes as long as a dozen multiplications, by multiplication.

``x / c`` becomes ``x * (1 / c)``. The result is off by at most 1.5 units in the last place where division is
off by 0.5: Goldberg, "What Every Computer Scientist Should Know About Floating-Point Arithmetic", 1991.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import ir, relax

from .constants import constant, constant_value
from .rewrite import CallRewriter, rewrite_calls


def replace_constant_divisors(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass. Divisors whose reciprocal is no normal number stay."""
    return rewrite_calls(mod, {"relax.divide": _divide})


def _divide(rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
    divisor = constant_value(call.args[1])
    if divisor is None or divisor.dtype != np.float32:
        return None
    with np.errstate(divide="ignore", over="ignore"):
        reciprocal = np.float32(1) / divisor
    limits = np.finfo(np.float32)
    normal = (np.abs(reciprocal) >= limits.tiny) & (np.abs(reciprocal) <= limits.max)
    return relax.op.multiply(call.args[0], constant(reciprocal)) if normal.all() else None
