"""Which operator an expression calls."""

from __future__ import annotations

from tvm import ir


def operator_name(expr: ir.Expr) -> str:
    """The name of the operator that ``expr`` calls, of Relax or of TIR; empty where it calls none."""
    is_operator = isinstance(expr, ir.Call) and isinstance(expr.op, ir.Op)
    return str(expr.op.name) if is_operator else ""
