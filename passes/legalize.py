"""Lowers Relax operators to kernels: by our definitions where we have one, else by TVM's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tvm
from tvm import ir, relax, te, tirx

from .compute import rows
from .compute.max_pool import PoolWindow, max_pool2d
from .tensor_types import element_type

LegalizeRule = Callable[[relax.BlockBuilder, ir.Call], relax.Expr]
Definition = Callable[..., te.Tensor]
NARROW = ("bfloat16", "float16")
ROW_TYPES = ("float32", *NARROW)
"""What the definitions of rows are written for."""


def legalize(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass.

    Reshapes and views stay operators: the virtual machine makes a view, whatever the extents are.
    """
    return relax.transform.LegalizeOps(_RULES, skip_ops=["relax.reshape", "relax.memory.view"])(mod)


def _clip(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
    """NaN stays NaN, and where the bounds cross the upper one wins; TVM's own definition loses NaN."""
    dtype = element_type(call.args[0])
    low, high = (bound.astype(dtype) for bound in call.args[1:])

    def clip(x: te.Tensor) -> te.Tensor:
        def clamped(*index: tirx.Var) -> tirx.Expr:
            raised = tirx.Select(x(*index) < low, low, x(*index))
            return tirx.Select(raised > high, high, raised)

        return te.compute(x.shape, clamped, name="clip")

    return builder.call_te(clip, call.args[0])


def _repeat(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
    """The extents are spelled as in the operator's type, not anew, so that neighbours can be fused."""
    if call.attrs.axis is None:
        return _by_tvm(builder, call, "relax.repeat")
    axis, times, shape = int(call.attrs.axis), int(call.attrs.repeats), list(call.ty.shape)

    def repeat(x: te.Tensor) -> te.Tensor:
        def source(*index: tirx.Var) -> tirx.Expr:
            return x(*index[:axis], tirx.floordiv(index[axis], times), *index[axis + 1 :])

        return te.compute(shape, source, name="repeat")

    return builder.call_te(repeat, call.args[0])


def _max_pool2d(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
    """TVM stores a start value in the type of the result, which fails for bfloat16."""
    attrs = call.attrs
    if element_type(call.args[0]) not in NARROW:
        return _by_tvm(builder, call, "relax.nn.max_pool2d")
    size, strides, dilation = ((int(a), int(b)) for a, b in (attrs.pool_size, attrs.strides, attrs.dilation))
    window = PoolWindow(size, strides, dilation, (int(attrs.padding[0]), int(attrs.padding[1])))
    pool = partial(max_pool2d, window=window, shape=list(call.ty.shape))
    return builder.call_te(pool, call.args[0], primfunc_name_hint="max_pool2d")


def _softmax(definition: Callable[[te.Tensor], te.Tensor], op: str) -> LegalizeRule:
    def rule(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
        axis = int(call.attrs.axis) % int(call.args[0].ty.ndim)
        if not _is_last(call.args[0], axis):
            single = int(call.args[0].ty.ndim) == 1
            if single or definition is not rows.softmax_rows or element_type(call.args[0]) not in ROW_TYPES:
                return _by_tvm(builder, call, op)
            columns = _in_float32(partial(rows.softmax_columns, axis=axis))
            return builder.call_te(columns, call.args[0], primfunc_name_hint="softmax_columns")
        return builder.call_te(_in_float32(definition), call.args[0], primfunc_name_hint=definition.__name__)

    return rule


def _layer_norm(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
    attrs = call.attrs
    last = len(attrs.axes) == 1 and _is_last(call.args[0], int(attrs.axes[0]))
    if not last or not attrs.center or not attrs.scale or element_type(call.args[0]) not in ROW_TYPES:
        return _by_tvm(builder, call, "relax.nn.layer_norm")
    definition = partial(rows.layer_norm_rows, epsilon=float(attrs.epsilon))
    return builder.call_te(_in_float32(definition), *call.args, primfunc_name_hint="layer_norm")


def _in_float32(definition: Definition) -> Definition:
    """``definition`` for narrow types, too: it computes in float32 and rounds its result."""

    def convert(*operands: te.Tensor) -> te.Tensor:
        dtype = operands[0].dtype
        if dtype not in NARROW:
            return definition(*operands)
        return _cast(definition(*(_cast(operand, "float32") for operand in operands)), dtype)

    return convert


def _cast(x: te.Tensor, dtype: str) -> te.Tensor:
    return te.compute(x.shape, lambda *i: tirx.Cast(dtype, x(*i)), name="cast")


def _reduction(op: str, definition: Definition) -> LegalizeRule:
    """``definition`` of a reduction takes a tensor and ``keepdims``, and reduces the last axis."""

    def rule(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
        data, axes = call.args[0], call.attrs.axis
        single = axes is not None and len(axes) == 1 and _is_last(data, int(axes[0]))
        if not single or element_type(data) != "float32":
            return _by_tvm(builder, call, op)
        rows_of = partial(definition, keepdims=bool(call.attrs.keepdims))
        return builder.call_te(rows_of, data, primfunc_name_hint=op.rsplit(".", 1)[1])

    return rule


def _reduce(reducer: rows.Reducer, mean: bool = False) -> Definition:
    return partial(rows.reduce_last_axis, reducer=reducer, mean=mean)


def _is_last(data: relax.Expr, axis: int) -> bool:
    """Whether ``axis`` is the innermost axis of ``data``, and not the only one."""
    rank = int(data.ty.ndim)
    return rank >= 2 and axis % rank == rank - 1


def _by_tvm(builder: relax.BlockBuilder, call: ir.Call, op: str) -> relax.Expr:
    legalization = ir.Op.get(op).get_attr("FLegalize")
    return legalization(builder, call)


_RULES: dict[str, LegalizeRule] = {
    "relax.clip": _clip,
    "relax.repeat": _repeat,
    "relax.nn.max_pool2d": _max_pool2d,
    "relax.nn.softmax": _softmax(rows.softmax_rows, "relax.nn.softmax"),
    "relax.nn.log_softmax": _softmax(rows.log_softmax_rows, "relax.nn.log_softmax"),
    "relax.nn.layer_norm": _layer_norm,
    "relax.sum": _reduction("relax.sum", _reduce(rows.SUM)),
    "relax.max": _reduction("relax.max", _reduce(rows.MAX)),
    "relax.min": _reduction("relax.min", _reduce(rows.MIN)),
    "relax.mean": _reduction("relax.mean", _reduce(rows.SUM, mean=True)),
    "relax.variance": _reduction("relax.variance", rows.variance_last_axis),
}
