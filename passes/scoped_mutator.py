"""The frame that passes share which keep a second form of a value beside the one that its type has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tvm
from tvm import relax


class ScopedMutator(relax.PyExprMutator):  # type: ignore[misc]
    """Walks the bindings in order, and forgets at the end of a block what was learnt within it.

    Nothing outside of a block can see the variables that stand for the second forms.

    Attributes:
        learnt: what is known of variables of the old function; a subclass enters its dictionaries here.
    """

    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.learnt: list[dict[relax.Var, Any]] = []

    def visit_dataflow_block_(self, block: relax.DataflowBlock) -> relax.DataflowBlock:
        with self._scope():
            return super().visit_dataflow_block_(block)

    def visit_seq_expr_(self, sequence: relax.SeqExpr) -> relax.Expr:
        with self._scope():
            return super().visit_seq_expr_(sequence)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        before = [dict(values) for values in self.learnt]
        try:
            yield
        finally:
            for values, known in zip(self.learnt, before, strict=True):
                values.clear()
                values.update(known)

    def show_outside(self, var: relax.Var, value: relax.Expr) -> None:
        """Binds ``value``, which is what readers outside of the block get for ``var``."""
        in_dataflow = self.builder_.current_block_is_dataflow()
        emit = self.builder_.emit_output if in_dataflow else self.builder_.emit
        self.set_var_remap(var, emit(value))
