"""Which operators compute every image of a batch by itself.

The batch is axis 0 of an operator's result. Where it does not mix images, image i of the result depends on
image i of some operands, which can be *cut* along axis 0, and on the whole of the others, which all images
share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import ir, relax, tirx

from .elementwise import BINARY, UNARY
from .operator_name import operator_name
from .tensor_types import static_shape

CutRule = Callable[[ir.Call], Sequence[relax.Expr]]
"""The operands to cut; none where the operator mixes images."""


def cut_operands(value: relax.Expr, batch: int) -> tuple[relax.Var, ...]:
    """The variables to cut, if ``value`` is to be computed for some of its ``batch`` images at a time.

    None where ``value`` has another extent on axis 0, mixes images, or is of an operator unknown here.
    """
    if isinstance(value, relax.TupleGetItem):
        found: Sequence[relax.Expr] = [value.tuple_value]
    elif (name := operator_name(value)) in _RULES:
        found = _RULES[name](value)
    else:
        return ()
    cut = tuple(operand for operand in found if isinstance(operand, relax.Var))
    complete = len(cut) == len(found) and has_batch(value.ty, batch)
    return cut if complete and all(has_batch(operand.ty, batch) for operand in cut) else ()


def is_elementwise(value: relax.Expr) -> bool:
    """Whether the kernel that gives an operand of ``value`` computes ``value`` as well."""
    return operator_name(value) in _ELEMENTWISE


def batch_of(ty: relax.Type) -> int | None:
    """The extent of axis 0; None where ``ty`` is no tensor of which all extents are known."""
    shape = static_shape(ty)
    return shape[0] if shape else None


def has_batch(ty: relax.Type, batch: int) -> bool:
    """Whether ``ty`` is a tensor of ``batch`` images, or a tuple of such tensors."""
    if isinstance(ty, relax.TupleType):
        return all(has_batch(field, batch) for field in ty.fields)
    return batch_of(ty) == batch


def _data(call: ir.Call) -> Sequence[relax.Expr]:
    return [call.args[0]]


def _broadcast(call: ir.Call) -> Sequence[relax.Expr]:
    """Operands of fewer axes, or with one image, are the same for all images."""
    rank = int(call.ty.ndim)
    return [arg for arg in call.args if getattr(arg.ty, "ndim", -1) == rank and batch_of(arg.ty) != 1]


def _matmul(call: ir.Call) -> Sequence[relax.Expr]:
    """Of stacks of matrices; elsewhere axis 0 of the right-hand side is what is added up."""
    return _broadcast(call) if int(call.ty.ndim) >= 3 else []


def _reshape(call: ir.Call) -> Sequence[relax.Expr]:
    """Both sides have the batch, and so the same elements of each image."""
    return [call.args[0]] if isinstance(call.args[1], relax.ShapeExpr) else []


def _convolution(call: ir.Call) -> Sequence[relax.Expr]:
    return [call.args[0]] if str(call.attrs.data_layout).startswith("N") else []


def _pool(call: ir.Call) -> Sequence[relax.Expr]:
    return [call.args[0]] if str(call.attrs.layout).startswith("N") else []


def _concat(call: ir.Call) -> Sequence[relax.Expr]:
    is_tuple = isinstance(call.args[0], relax.Tuple)
    return list(call.args[0].fields) if is_tuple and _spares_batch(call, [call.attrs.axis]) else []


def _along_axis(call: ir.Call) -> Sequence[relax.Expr]:
    return [call.args[0]] if call.attrs.axis is not None and _spares_batch(call, [call.attrs.axis]) else []


def _along_axes(call: ir.Call) -> Sequence[relax.Expr]:
    return [call.args[0]] if call.attrs.axis is not None and _spares_batch(call, call.attrs.axis) else []


def _layer_norm(call: ir.Call) -> Sequence[relax.Expr]:
    return [call.args[0]] if _spares_batch(call, call.attrs.axes) else []


def _permute(call: ir.Call) -> Sequence[relax.Expr]:
    axes = call.attrs.axes
    return [call.args[0]] if axes is not None and int(axes[0]) % len(axes) == 0 else []


def _strided_slice(call: ir.Call) -> Sequence[relax.Expr]:
    axes = call.args[1]
    known = isinstance(axes, relax.Tuple) and all(isinstance(axis, tirx.IntImm) for axis in axes.fields)
    return [call.args[0]] if known and _spares_batch(call, axes.fields) else []


def _spares_batch(call: ir.Call, axes: Sequence[object]) -> bool:
    """Whether no axis of ``axes``, which count those of the first operand, is the batch."""
    data = call.args[0].fields[0] if isinstance(call.args[0], relax.Tuple) else call.args[0]
    return all(int(axis) % int(data.ty.ndim) != 0 for axis in axes)  # type: ignore[call-overload]


_SELECTIONS = frozenset({"relax.where"})
_ELEMENTWISE = UNARY | BINARY | _SELECTIONS
_POOLS = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")

_RULES: dict[str, CutRule] = {
    **dict.fromkeys(UNARY, _data),
    **dict.fromkeys(BINARY | _SELECTIONS, _broadcast),
    **{f"relax.nn.{op}": _convolution for op in ("conv1d", "conv2d")},
    **{f"relax.nn.{op}": _pool for op in _POOLS},
    **{f"relax.{op}": _along_axes for op in ("max", "mean", "min", "sum", "squeeze")},
    **{f"relax.{op}": _along_axis for op in ("nn.softmax", "repeat", "split")},
    "relax.concat": _concat,
    "relax.matmul": _matmul,
    "relax.nn.layer_norm": _layer_norm,
    "relax.permute_dims": _permute,
    "relax.reshape": _reshape,
    "relax.strided_slice": _strided_slice,
}
