"""The frame that call-rewriting passes share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import tvm
from tvm import ir, relax

from .operator_name import operator_name

ModulePass = Callable[[tvm.IRModule], tvm.IRModule]
CallRule = Callable[["CallRewriter", ir.Call], "relax.Expr | None"]
OUT_ELEMENTWISE_FUSABLE = 4
"""TVM's number for kernels into which element-wise ones behind them may be fused. It finds that out itself
for a single reduction, but not for one with a transform behind it."""


@relax.expr_functor.mutator
class CallRewriter(relax.PyExprMutator):  # type: ignore[misc]
    """Replaces calls of Relax operators by rules, from the inputs on.

    Args:
        mod: the module being rewritten; rules may add functions to it through ``builder_``.
        rules: operator name to rule. A rule sees the call with its operands rewritten already, and
            returns what to put in its place, or None to leave it.
        uses: how often each variable of the function was read before the rewrite. Where it is given, a
            rule applies only if the call's first operand is a variable with no other reader.
    """

    def __init__(
        self, mod: tvm.IRModule, rules: dict[str, CallRule], uses: Counter[relax.Var] | None = None
    ) -> None:
        super().__init__(mod)
        self.rules = rules
        self.uses = uses

    def visit_call_(self, call: ir.Call) -> relax.Expr:
        rule = self.rules.get(operator_name(call))
        applies = rule is not None and self._may_absorb(call.args[0])
        rewritten = super().visit_call_(call)
        replacement = rule(self, rewritten) if rule is not None and applies else None
        return rewritten if replacement is None else replacement

    def _may_absorb(self, operand: relax.Expr) -> bool:
        return self.uses is None or self.uses[operand] == 1

    def has_other_readers(self, operand: relax.Expr) -> bool:
        """Whether several expressions read ``operand``. What a rule has emitted itself counts as unread."""
        return self.uses is not None and self.uses[operand] > 1

    def defining_call(self, expr: relax.Expr, op: str) -> ir.Call | None:
        """The call of ``op`` that ``expr`` is, or is bound to; None where it is something else."""
        bound = self.lookup_binding(expr) if isinstance(expr, relax.Var) else expr
        return bound if operator_name(bound) == op else None


def rewrite_calls(
    mod: tvm.IRModule, rules: dict[str, CallRule], *, absorb_single_use: bool = False
) -> tvm.IRModule:
    """``mod`` with every Relax function rewritten by ``rules``, and what is then unused removed."""
    for name, function in list(mod.functions_items()):
        if isinstance(function, relax.Function):
            uses = count_uses(function) if absorb_single_use else None
            rewriter = CallRewriter(mod, rules, uses)
            rewriter.builder_.update_func(name, rewriter.visit_expr(function))
            mod = rewriter.builder_.get()
    return relax.transform.DeadCodeElimination()(mod)


def count_uses(function: relax.Function) -> Counter[relax.Var]:
    """How often each variable of ``function`` is read."""
    uses: Counter[relax.Var] = Counter()

    def count(expr: relax.Expr) -> None:
        operands = expr.args if isinstance(expr, ir.Call) else getattr(expr, "fields", ())
        uses.update(operand for operand in operands if isinstance(operand, relax.Var))

    relax.analysis.post_order_visit(function, count)
    return uses
