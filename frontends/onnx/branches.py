"""Code that runs under a condition: branches of equal types, joined by Relax's If."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as PySequence
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from .extents import Extent
from .graph_builder import GraphBuilder
from .node import Node, normalize_axis
from .tabulate import tabulate


@dataclass(frozen=True)
class Branch:
    """One converted branch: its bindings, closed around a tuple of its results."""

    body: Expr
    results: tuple[Expr, ...]


def closed(results: PySequence[Expr]) -> Expr:
    """What a branch ends with: its results as a tuple, a single one as itself."""
    return relax.Tuple(list(results)) if len(results) > 1 else results[0]


def same_types(builder: GraphBuilder, a: Branch, b: Branch) -> bool:
    """Whether two branches agree in ranks and element types."""
    return all(
        len(builder.shape(x)) == len(builder.shape(y)) and builder.dtype(x) == builder.dtype(y)
        for x, y in zip(a.results, b.results, strict=True)
    )


def either(
    builder: GraphBuilder, condition: Expr, then_branch: Branch, else_branch: Branch, name: str
) -> list[Expr]:
    """The results of the branch that a run-time condition chooses; ``name`` is for extents that differ."""
    scalar = builder.reshape(condition, ())
    # TVM plans memory a function at a time and mixes up the branches of one; so each has its own.
    bodies = [
        builder.outlined(then_branch.body, "then_branch"),
        builder.outlined(else_branch.body, "else_branch"),
    ]
    result = builder.block_builder.emit(relax.If(scalar, *bodies))
    count = len(then_branch.results)
    values = [result] if count == 1 else [builder.emit(relax.TupleGetItem(result, i)) for i in range(count)]
    return [
        builder.cast_shape(value, _merged(builder, x, y, name))
        for value, x, y in zip(values, then_branch.results, else_branch.results, strict=True)
    ]


def _merged(builder: GraphBuilder, a: Expr, b: Expr, name: str) -> list[Extent]:
    """The extents that both branches share; a new dimension wherever they differ."""
    pairs = zip(builder.shape(a), builder.shape(b), strict=True)
    return [
        x if builder.extents.equal(x, y) else builder.extents.fresh(f"{name}_d{axis}")
        for axis, (x, y) in enumerate(pairs)
    ]


def over_axes(node: Node, index: int, candidates: range, convert: Callable[[int], Expr]) -> Expr:
    """``convert(axis)`` for the axis of input 0 that another input names.

    A value known only at run time gets a branch for each of the ``candidates``, the axes that it may mean.
    For operators whose result has the same rank whichever axis it is.
    """
    rank = node.rank(0)
    value = node.value(index)
    if isinstance(value, np.ndarray):
        return convert(normalize_axis(int(value.reshape(-1)[0]), rank))
    named = node.builder.cast(node.builder.reshape(node.tensor(index), ()), "int64")

    def counted(axis: te.Tensor) -> te.Tensor:
        return tabulate((), lambda *_: tirx.floormod(axis(), tirx.IntImm("int64", rank)), name="axis")

    return _choice(node, node.te(counted, named, name="axis"), candidates, convert)


def _choice(node: Node, axis: Expr, candidates: range, convert: Callable[[int], Expr]) -> Expr:
    builder = node.builder
    if len(candidates) == 1:
        return builder.bound(convert(candidates[0]))
    first = builder.constant(candidates[0], "int64")
    condition = builder.emit(relax.op.equal(axis, first))
    with builder.branch() as close:
        result = builder.bound(convert(candidates[0]))
        then_branch = Branch(close(result), (result,))
    with builder.branch() as close:
        result = builder.bound(_choice(node, axis, candidates[1:], convert))
        else_branch = Branch(close(result), (result,))
    return either(builder, condition, then_branch, else_branch, node.outputs[0])[0]
