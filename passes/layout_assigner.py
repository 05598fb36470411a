"""The walk that assigns blocked layouts: which values of a graph have a form in NCHW[b]c, and which is it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tvm
from tvm import ir, relax, tirx

from .compute import layout
from .operator_name import operator_name
from .scoped_mutator import ScopedMutator


@dataclass(frozen=True)
class Blocked:
    """A value in NCHW[b]c.

    Attributes:
        expr: [N, ceil(C / b), H, W, b].
        channels: C, without the idle lanes.
    """

    expr: relax.Expr
    channels: int


@relax.expr_functor.mutator
class LayoutAssigner(ScopedMutator):
    """Walks the bindings in order, keeping for each old variable the blocked value that stands for it.

    Args:
        mod: the module being rewritten.
        block: the number of channels in a block.
        depth: how many channels convolutions of bfloat16 take in a step.
        rules: by the name of an operator, how it is computed on blocked values.
    """

    def __init__(self, mod: tvm.IRModule, block: int, depth: int, rules: Mapping[str, LayoutRule]) -> None:
        super().__init__(mod)
        self.rules = rules
        self.block = block
        self.depth = depth
        self.idle_lanes_are_finite = True
        self.blocked: dict[relax.Var, Blocked] = {}
        self.plain: dict[relax.Var, relax.Expr] = {}
        self.packed: dict[relax.Var, Blocked] = {}
        self.parts: dict[relax.Var, list[Blocked]] = {}
        self.learnt = [self.blocked, self.plain, self.packed, self.parts]

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        value = binding.value
        if isinstance(value, relax.If):
            self._materialise(relax.analysis.free_vars(value))
        parts = _split_parts(self, binding)
        if parts is not None:
            self.parts[binding.var] = parts
            return
        result = self._blocked_value(value)
        if result is None:
            super().visit_var_binding_(binding)
            return
        self.blocked[binding.var] = result
        if not isinstance(binding.var, relax.DataflowVar):
            self.show_outside(binding.var, self._unpacked(result))

    def _blocked_value(self, value: relax.Expr) -> Blocked | None:
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.parts:
            return self.parts[value.tuple_value][int(value.index)]
        rule = self.rules.get(operator_name(value))
        return None if rule is None else rule(self, value)

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> relax.Expr:
        if var in self.parts:
            return relax.Tuple([self.builder_.emit(self._unpacked(part)) for part in self.parts[var]])
        return self.in_nchw(var) if var in self.blocked else super().visit_dataflow_var_(var)

    def in_nchw(self, var: relax.Var) -> relax.Expr:
        """The unblocked value of ``var``."""
        if var not in self.plain:
            self.plain[var] = self.builder_.emit(self._unpacked(self.blocked[var]))
        return self.plain[var]

    def _unpacked(self, value: Blocked) -> relax.Expr:
        return self.builder_.call_te(layout.unpack_nchwc, value.expr, value.channels)

    def _materialise(self, variables: Sequence[relax.Var]) -> None:
        for var in variables:
            if var in self.blocked:
                self.in_nchw(var)

    def emit(self, expr: relax.Expr, channels: int) -> Blocked:
        """Binds ``expr``, a blocked tensor."""
        if isinstance(expr, ir.Call) and expr.op in _DIVERGING:
            self.idle_lanes_are_finite = False
        return Blocked(self.builder_.emit(expr), channels)

    def is_blocked(self, expr: relax.Expr) -> bool:
        """Whether ``expr``, an operand of the old function, lives in the blocked layout."""
        return isinstance(expr, relax.Var) and expr in self.blocked

    def as_blocked(self, expr: relax.Expr) -> Blocked | None:
        """The operand ``expr`` of the old function in the blocked layout; None if it has no such form."""
        if self.is_blocked(expr):
            return self.blocked[expr]
        channels = feature_map_channels(expr)
        if channels is None or not isinstance(expr, relax.Var):
            return None
        if expr not in self.packed:
            plain = self.visit_expr(expr)
            packed = self.builder_.call_te(layout.pack_nchwc, plain, self.block)
            self.packed[expr] = self.emit(packed, channels)
        return self.packed[expr]


LayoutRule = Callable[[LayoutAssigner, ir.Call], "Blocked | None"]
"""A rule sees the call as it was and returns its blocked result, or None to leave it in NCHW."""


def feature_map_channels(value: relax.Expr | relax.Type) -> int | None:
    """C of a value typed [N, C, H, W], or of such a type, with a known C; None otherwise."""
    shape = getattr(value if isinstance(value, relax.Type) else value.ty, "shape", None)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], tirx.IntImm):
        return None
    return int(shape[1])


def _split_parts(assigner: LayoutAssigner, binding: relax.VarBinding) -> list[Blocked] | None:
    """The parts of a blocked value that is split between blocks; None for any other binding."""
    call = binding.value
    if not isinstance(call, ir.Call) or call.op != _SPLIT or not isinstance(binding.var, relax.DataflowVar):
        return None
    channels = [feature_map_channels(field) for field in call.ty.fields]
    whole_blocks = all(c is not None and c % assigner.block == 0 for c in channels)
    if int(call.attrs.axis) != 1 or not whole_blocks or not assigner.is_blocked(call.args[0]):
        return None
    source, begin, parts = assigner.blocked[call.args[0]], 0, []
    for extent in (c for c in channels if c is not None):
        first, last = begin // assigner.block, (begin + extent) // assigner.block
        part = relax.op.strided_slice(source.expr, axes=[1], begin=[first], end=[last])
        parts.append(assigner.emit(part, extent))
        begin += extent
    return parts


_DIVERGING = [ir.Op.get(f"relax.{name}") for name in ("divide", "power", "sqrt")]
_SPLIT = ir.Op.get("relax.split")
