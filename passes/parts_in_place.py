"""Slices become views, and concatenations become places where their parts are written.

Where every axis before the one that is cut has a single element, a part is a contiguous piece of the whole.
So a slice needs no copy: it is a view of what it is cut from. And the kernels that compute the parts of a
concatenation can write them where the whole keeps them: here it becomes a call of ``JOIN``, which keeps
kernels apart, and ``place_parts.py`` puts the parts into one buffer once buffers have been given out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import ir, relax, tirx
from tvm.s_tir import SBlock

from ..runtime.signature import ALIGNMENT
from .operator_name import operator_name
from .rewrite import count_uses
from .tensor_types import bytes_of, element_type, item_bytes, static_shape

JOIN = "relaxc.join"
"""The external function that stands for a concatenation whose parts are written in place."""
LEAST_BYTES = 16384
"""From here on a copy costs more than a view."""
LEAST_SAVED = 0.25
"""The share of a concatenation that must need no copy."""
_ANCHORS = frozenset(
    f"relax.{op}"
    for op in (
        *("matmul", "mean", "sum", "max", "min", "nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d"),
        *("nn.softmax", "nn.layer_norm", "nn.conv2d", "nn.conv1d"),
    )
)
"""Operators whose kernels write their results to memory, whatever reads these."""


@dataclass(frozen=True)
class Piece:
    """A contiguous piece of a tensor: elements ``begin`` to ``end`` of its ``axis``."""

    source: relax.Var
    axis: int
    begin: int
    end: int


def parts_in_place(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass."""
    for name, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            placer = PartPlacer(mod, count_uses(function))
            placer.builder_.update_func(name, placer.visit_expr(function))
            mod = placer.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)


@relax.expr_functor.mutator
class PartPlacer(relax.PyExprMutator):  # type: ignore[misc]
    """Rewrites slices and concatenations that nothing outside of a dataflow block reads.

    The branches of conditions stay as they are.
    """

    def __init__(self, mod: tvm.IRModule, uses: Counter[relax.Var]) -> None:
        super().__init__(mod)
        self.mod = mod
        self.uses = uses
        self.values: dict[relax.Var, relax.Expr] = {}
        self.pieces: dict[relax.Var, Piece] = {}
        self.placed: set[relax.Var] = set()
        self.depth = 0

    def visit_seq_expr_(self, sequence: relax.SeqExpr) -> relax.Expr:
        self.depth += 1
        try:
            return super().visit_seq_expr_(sequence)
        finally:
            self.depth -= 1

    def visit_var_binding_(self, binding: relax.VarBinding) -> None:
        inner = isinstance(binding.var, relax.DataflowVar) and self.depth == 1
        replacement = self._replacement(binding) if inner else None
        self.values[binding.var] = binding.value
        if replacement is None:
            super().visit_var_binding_(binding)
        else:
            self.set_var_remap(binding.var, self.builder_.emit(replacement))

    def _replacement(self, binding: relax.VarBinding) -> relax.Expr | None:
        value = binding.value
        if operator_name(value) == "relax.concat":
            return self._joined(value)
        piece = self._piece(value)
        if piece is None:
            return None
        self.pieces[binding.var] = piece
        shape = static_shape(binding.var.ty) or []
        offset = piece.begin * math.prod(shape[piece.axis + 1 :]) * item_bytes(binding.var)
        small = bytes_of(binding.var.ty) < LEAST_BYTES
        if small or offset % ALIGNMENT or self.uses[piece.source] == 1 or not self._is_computed(piece.source):
            return None
        source = self.visit_expr(piece.source)
        return relax.op.memory.view(source, shape, element_type(binding.var), offset)

    def _piece(self, value: relax.Expr) -> Piece | None:
        """What ``value`` cuts from a tensor, if that is contiguous."""
        if isinstance(value, relax.TupleGetItem):
            return self._split_piece(value)
        if operator_name(value) != "relax.strided_slice" or not isinstance(value.args[0], relax.Var):
            return None
        bounds = [_numbers(argument) for argument in value.args[1:]]
        if any(numbers is None or len(numbers) != 1 for numbers in bounds):
            return None
        axis, begin, end, stride = (numbers[0] for numbers in (*bounds, [1])[:4] if numbers is not None)
        return _contiguous(value.args[0], axis, begin, end) if stride == 1 else None

    def _split_piece(self, value: relax.TupleGetItem) -> Piece | None:
        split = self.values.get(value.tuple_value) if isinstance(value.tuple_value, relax.Var) else None
        if split is None or operator_name(split) != "relax.split" or not isinstance(split.args[0], relax.Var):
            return None
        axis = int(split.attrs.axis) % int(split.args[0].ty.ndim)
        shapes = [static_shape(field) for field in split.ty.fields]
        extents = [shape[axis] for shape in shapes if shape is not None]
        if len(extents) < len(shapes):
            return None
        begin = sum(extents[: int(value.index)])
        return _contiguous(split.args[0], axis, begin, begin + extents[int(value.index)])

    def _joined(self, call: ir.Call) -> relax.Expr | None:
        """The call of ``JOIN`` that stands for a concatenation; None where that saves too little."""
        shape = static_shape(call.ty)
        if shape is None or not isinstance(call.args[0], relax.Tuple) or call.attrs.axis is None:
            return None
        axis = int(call.attrs.axis) % len(shape)
        parts = self._without_cuts(list(call.args[0].fields), axis)
        if len(parts) == 1:
            return self.visit_expr(parts[0])
        whole_vectors = all(isinstance(p, relax.Var) and bytes_of(p.ty) % ALIGNMENT == 0 for p in parts)
        if math.prod(shape[:axis]) != 1 or not whole_vectors:
            return None
        saved = [part for part in dict.fromkeys(parts) if self._needs_no_copy(part)]
        total = sum(bytes_of(part.ty) for part in parts)
        if total < LEAST_BYTES or sum(bytes_of(part.ty) for part in saved) < LEAST_SAVED * total:
            return None
        self.placed.update(saved)
        return relax.call_pure_packed(JOIN, *map(self.visit_expr, parts), ty_args=call.ty)

    def _without_cuts(self, parts: list[relax.Expr], axis: int) -> list[relax.Expr]:
        """``parts``, with those that together are all pieces of one tensor replaced by that."""
        result: list[relax.Expr] = []
        while parts:
            count = self._pieces_of_whole(parts, axis)
            result.append(self.pieces[parts[0]].source if count else parts[0])
            parts = parts[max(count, 1) :]
        return result

    def _pieces_of_whole(self, parts: Sequence[relax.Expr], axis: int) -> int:
        """How many leading ``parts`` are, in order, all pieces of one tensor; 0 if they are not."""
        first, position = self.pieces.get(parts[0]), 0
        for count, part in enumerate(parts, 1):
            piece = self.pieces.get(part)
            if piece is None or first is None or not piece.source.same_as(first.source):
                return 0
            if (piece.axis, piece.begin) != (axis, position):
                return 0
            position = piece.end
            if position == int(piece.source.ty.shape[axis]):
                return count
        return 0

    def _needs_no_copy(self, part: relax.Var) -> bool:
        """Whether ``part`` is written to memory by a kernel of its own in any case."""
        if part in self.placed or part in self.pieces or not self._is_computed(part):
            return False
        return self.uses[part] > 1 or self._is_behind_anchor(self.values[part])

    def _is_computed(self, var: relax.Var) -> bool:
        """Whether a kernel of this block writes ``var``."""
        value = self.values.get(var)
        is_call = isinstance(var, relax.DataflowVar) and isinstance(value, ir.Call)
        return is_call and operator_name(value) != "relax.reshape"

    def _is_behind_anchor(self, value: relax.Expr) -> bool:
        """Whether ``value`` is an anchor, or will be part of the kernel of one."""
        if not isinstance(value, ir.Call):
            return False
        if operator_name(value) in _ANCHORS:
            return True
        if value.op == _CALL_TIR:
            return _reduces(self.mod[value.args[0]])
        operands = [arg for arg in value.args if isinstance(arg, relax.Var) and self.uses[arg] == 1]
        return any(self._is_behind_anchor(self.values[arg]) for arg in operands if arg in self.values)


_CALL_TIR = ir.Op.get("relax.call_tir")


def _contiguous(source: relax.Var, axis: int, begin: int, end: int) -> Piece | None:
    shape = static_shape(source.ty)
    if shape is None:
        return None
    axis, extent = axis % len(shape), shape[axis]
    begin, end = (min(max(place + extent if place < 0 else place, 0), extent) for place in (begin, end))
    return Piece(source, axis, begin, end) if math.prod(shape[:axis]) == 1 and begin < end else None


def _reduces(kernel: tirx.PrimFunc) -> bool:
    found: list[SBlock] = []
    tvm_ffi.structural_walk(kernel.body, (SBlock, found.append))
    return any(var.iter_type == tirx.IterVar.CommReduce for block in found for var in block.iter_vars)


def _numbers(argument: relax.Expr) -> list[int] | None:
    fields = argument.fields if isinstance(argument, relax.Tuple) else []
    values = [getattr(field, "value", field) for field in fields]
    return [int(value) for value in values] if values and all(map(_is_number, values)) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | tirx.IntImm)
