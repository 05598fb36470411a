"""Brings a float32 graph to a narrower type: values between kernels are stored narrow, sums stay in float32.

Every operator has a rule:

- convolutions and matrix products multiply narrow operands and add the products up in float32;
- element-wise operators compute in float32 between narrow operands and a narrow result, so that a fused chain
  of them rounds once, at its end;
- softmax and layer normalisation read and write narrow values and are computed in float32;
- data movement and maximum pooling take the type of what they move;
- everything else (reductions, losses, what has no rule) stays in float32, as do all operators that no narrow
  value reaches, and the inputs and outputs of the graph;
- where the narrow type has a smaller range than float32, what may leave it stays in float32, too
  (``narrow_range``).

Casts stand only where these meet, and fusion puts them into the kernels beside them. Constants that become
narrow are rounded here, to nearest, ties to even.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes  # noqa: F401 - registers bfloat16 with NumPy
import numpy as np
import tvm
from tvm import ir, relax, tirx

from .compute.max_pool import LARGEST_WINDOW
from .constants import constant, constant_value
from .conv2d_layouts import FEW_CHANNELS
from .elementwise import BINARY, UNARY
from .narrow_range import NarrowRange
from .operator_name import operator_name
from .scoped_mutator import ScopedMutator
from .tensor_types import element_type

WIDE = "float32"


def convert_precision(mod: tvm.IRModule, dtype: str) -> tvm.IRModule:
    """The pass; ``dtype`` is the narrow type, such as ``"bfloat16"``."""
    for name, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            converter = PrecisionConverter(mod, dtype)
            converter.builder_.update_func(name, converter.visit_expr(function))
            mod = converter.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)


@relax.expr_functor.mutator
class PrecisionConverter(ScopedMutator):
    """Walks the bindings in order, keeping for each old variable the narrow value that stands for it.

    Whatever reads such a variable without a rule of its own reads a cast back to float32.
    """

    def __init__(self, mod: tvm.IRModule, dtype: str) -> None:
        super().__init__(mod)
        self.dtype = dtype
        self.range = NarrowRange(dtype)
        self.narrow: dict[relax.Var, relax.Var] = {}
        self.copies: dict[relax.Var, relax.Var] = {}
        self.learnt = [self.narrow, self.copies]

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        result = self._narrow_value(binding.value)
        self.range.note(binding)
        if result is None:
            super().visit_var_binding_(binding)
            return
        narrow = self.builder_.emit(result)
        self.narrow[binding.var] = narrow
        if not isinstance(binding.var, relax.DataflowVar):
            self.show_outside(binding.var, _widened(narrow))

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        if var in self.narrow:
            return self.builder_.emit(_widened(self.narrow[var]))
        return super().visit_dataflow_var_(var)

    def visit_call_(self, call: ir.Call) -> relax.Expr:
        """A value that has become narrow is not rounded again."""
        is_cast = operator_name(call) == "relax.astype"
        if is_cast and str(call.attrs.dtype) == self.dtype and self.is_narrow(call.args[0]):
            return self.narrow[call.args[0]]
        return super().visit_call_(call)

    def _narrow_value(self, value: relax.Expr) -> relax.Expr | None:
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.narrow:
            return relax.TupleGetItem(self.narrow[value.tuple_value], value.index)
        rule = _RULES.get(operator_name(value))
        return None if rule is None else rule(self, value)

    def is_narrow(self, expr: relax.Expr) -> bool:
        """Whether ``expr``, an operand of the old function, has become narrow."""
        return isinstance(expr, relax.Var) and expr in self.narrow

    def in_narrow(self, expr: relax.Expr) -> relax.Expr:
        """The operand ``expr`` of the old function in the narrow type."""
        value = constant_value(expr)
        if value is not None:
            return constant(value.astype(self.dtype))
        if self.is_narrow(expr):
            return self.narrow[expr]
        if isinstance(expr, relax.Var) and expr in self.copies:
            return self.copies[expr]
        copy = self.builder_.emit(relax.op.astype(self.visit_expr(expr), self.dtype))
        if isinstance(expr, relax.Var):
            self.copies[expr] = copy
        return copy

    def rounded(self, wide: relax.Expr) -> relax.Expr:
        """``wide``, a float32 expression, in the narrow type."""
        return relax.op.astype(self.builder_.emit(wide), self.dtype)

    def in_wide(self, call: ir.Call) -> ir.Call:
        """``call`` of the old function on float32 operands."""
        return ir.Call(call.op, [self.visit_expr(arg) for arg in call.args], call.attrs)


PrecisionRule = Callable[[PrecisionConverter, ir.Call], "relax.Expr | None"]


def _widened(value: relax.Var) -> relax.Expr:
    if isinstance(value.ty, ir.TupleType):
        fields = range(len(value.ty.fields))
        return relax.Tuple([relax.op.astype(relax.TupleGetItem(value, i), WIDE) for i in fields])
    return relax.op.astype(value, WIDE)


def _is_wide_tensor(expr: relax.Expr) -> bool:
    """Whether ``expr``, of the old function, is a tensor that may become narrow."""
    return isinstance(expr.ty, relax.TensorType) and element_type(expr) == WIDE


def _conv2d(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    attrs, weight = call.attrs, constant_value(call.args[1])
    if weight is None or not (_is_wide_tensor(call) and _is_wide_tensor(call.args[0])):
        return None
    if not converter.range.holds(weight):
        return None
    if not _multiplies_narrow(converter, call, weight):
        return converter.rounded(converter.in_wide(call))
    operands = [converter.in_narrow(arg) for arg in call.args]
    names = ("strides", "padding", "dilation", "groups", "data_layout", "kernel_layout")
    values = {name: getattr(attrs, name) for name in names}
    return converter.rounded(relax.op.nn.conv2d(*operands, **values, out_dtype=WIDE))


def _multiplies_narrow(converter: PrecisionConverter, call: ir.Call, weight: np.ndarray) -> bool:
    """Whether the convolution has a kernel for narrow operands.

    Dot products of bfloat16 take pairs of channels, or pairs of columns where an input has few channels.
    """
    if converter.dtype != "bfloat16":
        return True
    out_channels, channels = weight.shape[:2]
    groups = int(call.attrs.groups)
    if groups > 1 and channels == 1 and out_channels == groups:
        return True
    if channels <= FEW_CHANNELS and not converter.is_narrow(call.args[0]):
        return bool(groups == 1 and weight.shape[3] > 1 and int(call.attrs.dilation[1]) == 1)
    return bool(channels % 2 == 0)


def _matmul(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    if not all(_is_wide_tensor(arg) and arg.ty.ndim >= 2 for arg in (call, *call.args)):
        return None
    if not all(map(converter.range.holds_constant, call.args)):
        return None
    shape = call.args[0].ty.shape
    inner = None if shape is None else shape[-1]
    if inner is None or (isinstance(inner, tirx.IntImm) and int(inner) < 2):
        return converter.rounded(converter.in_wide(call))
    operands = [converter.in_narrow(arg) for arg in call.args]
    return converter.rounded(relax.op.matmul(*operands, out_dtype=WIDE))


def _cast(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    """What was narrow before it was made wide stays narrow."""
    source, dtype = call.args[0], str(call.attrs.dtype)
    if dtype == WIDE and _is_tensor(source) and element_type(source) == converter.dtype:
        return converter.visit_expr(source)
    return None


def _elementwise(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    """A float32 operand that is no constant keeps the result in float32: it may not fit the narrow type."""
    operands = [arg for arg in call.args if constant_value(arg) is None and _is_tensor(arg)]
    if not (operands and _is_wide_tensor(call) and all(map(converter.is_narrow, operands))):
        return None
    if converter.range.may_leave(call):
        return None
    return converter.rounded(converter.in_wide(call))


def _is_tensor(expr: relax.Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType)


def _moved(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    """All that is moved must be narrow, or constant beside something narrow."""
    moved = [leaf for arg in call.args for leaf in _leaves(arg) if _is_wide_tensor(leaf)]
    variables = [leaf for leaf in moved if constant_value(leaf) is None]
    if not (variables and all(map(converter.is_narrow, variables))):
        return None
    if not all(map(converter.range.holds_constant, moved)):
        return None
    return ir.Call(call.op, [_move_operand(converter, arg) for arg in call.args], call.attrs)


def _leaves(arg: relax.Expr) -> Sequence[relax.Expr]:
    return list(arg.fields) if isinstance(arg, relax.Tuple) else [arg]


def _move_operand(converter: PrecisionConverter, arg: relax.Expr) -> relax.Expr:
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([_move_operand(converter, field) for field in arg.fields])
    return converter.in_narrow(arg) if _is_wide_tensor(arg) else converter.visit_expr(arg)


def _take(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    """Rows of a constant table (an embedding) start narrow."""
    table = constant_value(call.args[0])
    if table is None or table.ndim != 2 or not _is_wide_tensor(call.args[0]):
        return _moved(converter, call)
    if not converter.range.holds(table):
        return None
    return ir.Call(call.op, [_move_operand(converter, arg) for arg in call.args], call.attrs)


def _max_pool2d(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    height, width = call.attrs.pool_size
    return _moved(converter, call) if int(height) * int(width) <= LARGEST_WINDOW else None


def _rows(converter: PrecisionConverter, call: ir.Call) -> relax.Expr | None:
    """Softmax and normalisation over the last axis: their definitions compute in float32 (``legalize``)."""
    data = call.args[0]
    axes = getattr(call.attrs, "axes", None) or [call.attrs.axis]
    last = len(axes) == 1 and int(axes[0]) % data.ty.ndim == data.ty.ndim - 1
    if not last or data.ty.ndim < 2 or converter.range.may_leave(call):
        return None
    if converter.range.is_that_of_float32 or converter.is_narrow(data) or not _is_wide_tensor(data):
        return _moved(converter, call)
    # Sums of residuals stay wide, but what has been normalised fits.
    return converter.rounded(converter.in_wide(call))


_MOVES = (
    *("broadcast_to", "concat", "expand_dims", "flatten", "flip", "permute_dims", "repeat", "reshape"),
    *("split", "squeeze", "stack", "strided_slice", "tile", "nn.batch_flatten"),
)

_RULES: dict[str, PrecisionRule] = {
    **dict.fromkeys(UNARY | BINARY, _elementwise),
    "relax.astype": _cast,
    "relax.nn.conv2d": _conv2d,
    "relax.matmul": _matmul,
    "relax.take": _take,
    "relax.nn.max_pool2d": _max_pool2d,
    "relax.nn.softmax": _rows,
    "relax.nn.log_softmax": _rows,
    "relax.nn.layer_norm": _rows,
    **{f"relax.{op}": _moved for op in _MOVES},
}
"""A rule sees the call as it was and returns its narrow result, or None to stay in float32."""
