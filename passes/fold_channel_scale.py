"""Folds per-channel scales and shifts (batch normalisation, once imported) into the convolution before them.

``conv2d(x, W) * s`` becomes ``conv2d(x, W * s)``, ``(conv2d(x, W) + b) * s`` becomes
``conv2d(x, W * s) + b * s``, and ``(conv2d(x, W) + b) + c`` becomes ``conv2d(x, W) + (b + c)``. Division and
subtraction by constants count as multiplication and addition. Only convolutions with constant weights and a
single reader are touched, so no work is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import ir, relax

from .constants import channel_vector, constant, constant_value
from .rewrite import CallRewriter, CallRule, rewrite_calls


def fold_channel_scale(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass."""
    return rewrite_calls(mod, _RULES, absorb_single_use=True)


def _channels(call: ir.Call) -> int | None:
    extents = call.ty.shape
    is_map = extents is not None and len(extents) == 4 and isinstance(extents[1], tvm.tirx.IntImm)
    return int(extents[1]) if is_map else None


def _scale_by(invert: bool) -> CallRule:
    def rule(rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
        scale = _per_channel_operand(call)
        if scale is None:
            return None
        return _scaled(rewriter, call.args[0], 1 / scale if invert else scale)

    return rule


def _shift_by(sign: int) -> CallRule:
    def rule(rewriter: CallRewriter, call: ir.Call) -> relax.Expr | None:
        shift = _per_channel_operand(call)
        biased = _biased_conv2d(rewriter, call.args[0])
        if shift is None or biased is None:
            return None
        return relax.op.add(biased.conv, _as_channels(biased.bias + sign * shift))

    return rule


@dataclass(frozen=True)
class _BiasedConv2d:
    """``add(conv, bias)``, where ``conv`` is bound to ``call``."""

    conv: relax.Expr
    call: ir.Call
    bias: np.ndarray


def _biased_conv2d(rewriter: CallRewriter, expr: relax.Expr) -> _BiasedConv2d | None:
    add = rewriter.defining_call(expr, "relax.add")
    bias = None if add is None else _per_channel_operand(add)
    if add is None or bias is None:
        return None
    call = rewriter.defining_call(add.args[0], "relax.nn.conv2d")
    return None if call is None else _BiasedConv2d(add.args[0], call, bias)


def _per_channel_operand(call: ir.Call) -> np.ndarray | None:
    channels = _channels(call)
    return None if channels is None else channel_vector(call.args[1], channels)


def _scaled(rewriter: CallRewriter, expr: relax.Expr, scale: np.ndarray) -> relax.Expr | None:
    conv = rewriter.defining_call(expr, "relax.nn.conv2d")
    if conv is not None:
        return _scaled_conv2d(conv, scale)
    biased = _biased_conv2d(rewriter, expr)
    if biased is None or rewriter.has_other_readers(biased.conv):
        return None
    scaled = _scaled_conv2d(biased.call, scale)
    if scaled is None:
        return None
    return relax.op.add(rewriter.builder_.emit(scaled), _as_channels(biased.bias * scale))


def _scaled_conv2d(conv: ir.Call, scale: np.ndarray) -> relax.Expr | None:
    weight = constant_value(conv.args[1])
    if weight is None or conv.attrs.kernel_layout != "OIHW":
        return None
    scaled = (weight * scale[:, None, None, None]).astype(weight.dtype)
    return ir.Call(conv.op, [conv.args[0], constant(scaled)], conv.attrs)


def _as_channels(vector: np.ndarray) -> relax.Expr:
    return constant(vector.reshape(1, -1, 1, 1))


_RULES: dict[str, CallRule] = {
    "relax.multiply": _scale_by(invert=False),
    "relax.divide": _scale_by(invert=True),
    "relax.add": _shift_by(+1),
    "relax.subtract": _shift_by(-1),
}
