"""Lowers Relax operators to kernels: by our definitions where we have one, else by TVM's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import tvm
from tvm import ir, relax, te, tirx

from .compute import rows
from .compute.extremum import extremum
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
    """``definition`` of a reduction takes a tensor and the result's shape, and reduces the last axis."""

    def rule(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
        reduced = _over_rows(builder, call, op, definition)
        return _by_tvm(builder, call, op) if reduced is None else reduced

    return rule


def _extremum(op: str, reducer: rows.Reducer) -> LegalizeRule:
    """Over any axes, with infinities where TVM's own definition has none."""

    def rule(builder: relax.BlockBuilder, call: ir.Call) -> relax.Expr:
        reduced = _over_rows(builder, call, op, _reduce(reducer))
        if reduced is not None:
            return reduced
        if not element_type(call.args[0]).startswith("float"):
            return _by_tvm(builder, call, op)
        axes, shape = _axes(call), list(call.ty.shape)
        compute = partial(extremum, axes=axes, shape=shape, reducer=reducer)
        return builder.call_te(compute, call.args[0], primfunc_name_hint=op.rsplit(".", 1)[1])

    return rule


def _over_rows(
    builder: relax.BlockBuilder, call: ir.Call, op: str, definition: Definition
) -> relax.Expr | None:
    """A reduction as one of rows; None if it is none."""
    data = call.args[0]
    matrix = _as_rows(data, _axes(call)) if element_type(data) == "float32" else None
    if matrix is None:
        return None
    if len(_axes(call)) > 1 or len(matrix) != int(data.ty.ndim):
        data = builder.emit(relax.op.reshape(data, matrix))
    # A template wants a loop around each of its blocks, so a scalar is computed as a vector of one element.
    rows_of = partial(definition, shape=list(call.ty.shape) or [1])
    result = builder.call_te(rows_of, data, primfunc_name_hint=op.rsplit(".", 1)[1])
    return result if len(call.ty.shape) else relax.op.reshape(builder.emit(result), [])


def _axes(call: ir.Call) -> list[int]:
    """The axes that a reduction names, counted from the first one."""
    rank = int(call.args[0].ty.ndim)
    return (
        sorted(int(axis) % rank for axis in call.attrs.axis)
        if call.attrs.axis is not None
        else [*range(rank)]
    )


def _as_rows(data: relax.Expr, axes: Sequence[int]) -> list[tirx.Expr] | None:
    """The shape of ``data`` with ``axes`` as one, behind at least one other.

    None unless they are the last ones. Several must be of known extents: others would no longer be spelled as
    neighbouring kernels spell them. Rows of several that hold no vector gain nothing.
    """
    shape = list(data.ty.shape)
    others, extents = shape[: len(shape) - len(axes)], shape[len(shape) - len(axes) :]
    known = [int(extent) for extent in extents if isinstance(extent, tirx.IntImm)]
    if not axes or axes[0] != len(others):
        return None
    short = bool(others) and math.prod(known) < rows.ROW_LANES
    if len(axes) > 1 and (len(known) < len(axes) or short):
        return None
    length = extents[0] if len(axes) == 1 else tirx.IntImm("int64", math.prod(known))
    return [*(others or [tirx.IntImm("int64", 1)]), length]


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
    "relax.max": _extremum("relax.max", rows.LARGEST),
    "relax.min": _extremum("relax.min", rows.SMALLEST),
    "relax.mean": _reduction("relax.mean", _reduce(rows.SUM, mean=True)),
    "relax.variance": _reduction("relax.variance", rows.variance_last_axis),
}
