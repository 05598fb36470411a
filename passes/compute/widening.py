"""Operands of products that are stored in float16 and multiplied in float32."""

from __future__ import annotations

from tvm import te, tirx

STORED = "float16"


def widen(value: tirx.Expr) -> tirx.Expr:
    """``value`` in float32 if it is stored in float16; else itself."""
    return tirx.Cast("float32", value) if str(value.ty.dtype) == STORED else value


def widened(x: te.Tensor) -> te.Tensor:
    """``x`` in float32 if it is stored in float16, by a stage of its own; else itself.

    A product reads an element of its left-hand operand once for each vector of results. To widen it there
    would take as many instructions as to multiply it.
    """
    if str(x.dtype) != STORED:
        return x
    return te.compute(x.shape, lambda *index: widen(x(*index)), name="widened")


def rounded(x: te.Tensor) -> te.Tensor:
    """``x`` as it is stored."""
    return te.compute(x.shape, lambda *index: tirx.Cast(STORED, x(*index)), name="rounded")
