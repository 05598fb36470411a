"""Computes parts of a graph for a few images of a batch at a time.

What a layer gives for a whole batch may be more than the caches hold, where what it gives for one image is
not. A run of operators that treat every image by itself becomes several chains of the same operators, one for
each group of images: of slices of what goes into the run, and joined by concatenations of what comes out.
Equal kernels of the chains become one in the passes behind this one, and a chain works in the memory of the
one before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import tvm
from tvm import ir, relax

from .batch_axis import cut_operands
from .batch_profile import Run, profile
from .batch_runs import Operators, find_runs

GroupImages = Callable[[Run], Sequence[int]]
"""How many images each step of a run computes at a time: a divisor of the batch, or the batch itself."""


def all_at_once(run: Run) -> Sequence[int]:
    """Leaves every batch whole."""
    return [run.batch] * len(run.steps)


def split_batch(mod: tvm.IRModule, group: GroupImages) -> tvm.IRModule:
    """The pass: ``group`` decides for every run of operators."""
    for name, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            splitter = _Splitter(mod, group)
            splitter.builder_.update_func(name, splitter.visit_expr(function))
            mod = splitter.builder_.get()
    return mod


@relax.expr_functor.mutator
class _Splitter(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule, group: GroupImages) -> None:
        super().__init__(mod)
        self.group = group

    def visit_dataflow_block_(self, block: relax.DataflowBlock) -> relax.DataflowBlock:
        pieces = [
            self._segments(piece) if isinstance(piece, Operators) else piece
            for piece in find_runs(list(block.bindings))
        ]
        if not any(images for piece in pieces if isinstance(piece, list) for images, _ in piece):
            return super().visit_dataflow_block_(block)
        self.builder_._begin_dataflow_block()
        for piece in pieces:
            if isinstance(piece, list):
                self._emit_segments(piece)
            else:
                self.visit_binding(piece)
        return self.builder_._end_block()

    def _segments(self, run: Operators) -> list[tuple[int, Operators]]:
        """Neighbours with equal groups, and how many images are in a group; 0 if they stay whole."""
        numbered = zip(self.group(profile(run)), run.bindings, strict=True)
        return [
            (images % run.batch, replace(run, bindings=[binding for _, binding in segment]))
            for images, segment in groupby(numbered, key=lambda pair: pair[0])
        ]

    def _emit_segments(self, segments: Sequence[tuple[int, Operators]]) -> None:
        for images, operators in segments:
            if images:
                self._emit_chains(operators, images)
            else:
                for binding in operators.bindings:
                    self.visit_binding(binding)

    def _emit_chains(self, operators: Operators, images: int) -> None:
        starts = range(0, operators.batch, images)
        chains = [self._chain(operators, start, images) for start in starts]
        for var in operators.kept():
            joined = relax.op.concat([chain[var] for chain in chains], axis=0)
            is_inner = isinstance(var, relax.DataflowVar)
            emit = self.builder_.emit if is_inner else self.builder_.emit_output
            self.set_var_remap(var, emit(joined))

    def _chain(self, operators: Operators, start: int, images: int) -> Mapping[relax.Var, relax.Expr]:
        """What stands for the variables and the sources of ``operators`` for the images from ``start`` on."""
        chain: dict[relax.Var, relax.Expr] = {}
        for var in operators.sources():
            part = relax.op.strided_slice(self.visit_expr(var), axes=[0], begin=[start], end=[start + images])
            chain[var] = self.builder_.emit(part)
        for binding in operators.bindings:
            cut = {var: chain[var] for var in cut_operands(binding.value, operators.batch)}
            chain[binding.var] = self.builder_.emit(self._part(binding.value, cut, images))
        return chain

    def _part(self, value: relax.Expr, cut: Mapping[relax.Var, relax.Expr], images: int) -> relax.Expr:
        """``value`` or an operand of it for ``images`` images."""
        if isinstance(value, relax.Var):
            return cut[value] if value in cut else self.visit_expr(value)
        if isinstance(value, relax.TupleGetItem):
            return relax.TupleGetItem(cut[value.tuple_value], value.index)
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self._part(field, cut, images) for field in value.fields])
        if isinstance(value, relax.ShapeExpr):  # of a reshape
            return relax.ShapeExpr([images, *list(value.values)[1:]])
        if isinstance(value, ir.Call):
            return ir.Call(value.op, [self._part(arg, cut, images) for arg in value.args], value.attrs)
        return value
