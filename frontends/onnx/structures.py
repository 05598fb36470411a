"""Values of any kind as tensors and back, for what passes through branches and loops."""

from __future__ import annotations

from collections.abc import Sequence as PySequence

from tvm.ir import Expr

from .graph_builder import GraphBuilder
from .run_time_sequences import inserted, of_items, of_nothing, rank_of
from .values import RunTimeOptional, RunTimeSequence, Sequence, Value


def as_run_time(builder: GraphBuilder, value: Value) -> Value:
    """The value in a form that ``leaves`` takes; None where it has none.

    A sequence of known length becomes one of unknown length, for another branch or step may give another.
    """
    if isinstance(value, Sequence):
        return of_items(builder, value)
    return None if isinstance(value, RunTimeOptional) else value


def like_kind(builder: GraphBuilder, sequence: Sequence, kind: Value) -> Value:
    """A sequence of known length as one of unknown length, whose entries are as those of ``kind``."""
    if sequence.items:
        return of_items(builder, sequence)
    if not isinstance(kind, RunTimeSequence):
        return None
    return of_nothing(builder, rank_of(builder, kind), builder.dtype(kind.elements))


def leaves(builder: GraphBuilder, value: Value) -> list[Expr]:
    """The tensors that make up a value."""
    if isinstance(value, RunTimeSequence):
        return [value.elements, value.shapes]
    return [builder.tensor(value)]


def rebuilt(templates: PySequence[Value], tensors: PySequence[Expr]) -> list[Value]:
    """Values of the templates' kinds from all their leaves."""
    rest = iter(tensors)
    return [
        RunTimeSequence(next(rest), next(rest)) if isinstance(template, RunTimeSequence) else next(rest)
        for template in templates
    ]


def form(builder: GraphBuilder, value: Value) -> tuple[str, int, str]:
    """What two values must share to pass for one another: kind, rank and element type."""
    if isinstance(value, RunTimeSequence):
        return "sequence", rank_of(builder, value), builder.dtype(value.elements)
    tensor = builder.tensor(value)
    return "tensor", len(builder.shape(tensor)), builder.dtype(tensor)


__all__ = ["as_run_time", "form", "inserted", "leaves", "like_kind", "rebuilt"]
