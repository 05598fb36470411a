"""Code that runs under a condition: branches of equal types, joined by Relax's If."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from collections.abc import Sequence as PySequence
from dataclasses import dataclass

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ...runtime.errors import InvalidModelError
from .extents import Extent, as_expression
from .graph_builder import GraphBuilder
from .node import Node, normalize_axis
from .structures import form, rebuilt
from .tabulate import tabulate
from .values import Value


@dataclass(frozen=True)
class Branch:
    """One converted branch.

    Attributes:
        body: its bindings, closed around a tuple of its results.
        results: the tensors in that tuple.
        values: what they make up; a sequence is several tensors.
    """

    body: Expr
    results: tuple[Expr, ...]
    values: tuple[Value, ...]


def closed(results: PySequence[Expr]) -> Expr:
    """What a branch ends with: its results as a tuple, a single one as itself."""
    return relax.Tuple(list(results)) if len(results) > 1 else results[0]


def same_types(builder: GraphBuilder, a: Branch, b: Branch) -> bool:
    """Whether two branches agree in kinds, ranks and element types."""
    return [form(builder, value) for value in a.values] == [form(builder, value) for value in b.values]


def either(
    builder: GraphBuilder, condition: Expr, then_branch: Branch, else_branch: Branch, name: str
) -> list[Value]:
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
    tensors = [
        builder.cast_shape(value, _merged(builder, x, y, name))
        for value, x, y in zip(values, then_branch.results, else_branch.results, strict=True)
    ]
    return rebuilt(then_branch.values, tensors)


def _merged(builder: GraphBuilder, a: Expr, b: Expr, name: str) -> list[Extent]:
    """The extents that both branches share; a new dimension wherever they differ."""
    pairs = zip(builder.shape(a), builder.shape(b), strict=True)
    return [
        x if builder.extents.equal(x, y) else builder.extents.fresh(f"{name}_d{axis}")
        for axis, (x, y) in enumerate(pairs)
    ]


AxisSet = tuple[int, ...]

_MOST_BRANCHES = 70
"""The subsets of half the axes of rank 8. More alternatives than that are not compiled."""


def over_axes(node: Node, index: int, candidates: range, convert: Callable[[int], Expr]) -> Expr:
    """``convert(axis)`` for the axis of input 0 that another input names.

    A value known only at run time gets a branch for each of the ``candidates``, the axes that it may mean.
    For operators whose result has the same rank whichever axis it is.
    """
    value = node.value(index)
    if isinstance(value, np.ndarray):
        return convert(normalize_axis(int(value.reshape(-1)[0]), node.rank(0)))
    sets = [(axis,) for axis in candidates]
    return _chosen(node, index, sets, lambda axes: convert(axes[0]))


def over_axis_sets(node: Node, index: int, convert: Callable[[AxisSet], Expr]) -> Expr:
    """``convert(axes)``, as ``over_axes``, for an input that names any number of axes of input 0.

    Raises StaticInputRequired where there are too many sets of axes to compile them all.
    """
    rank, count = node.rank(0), node.extents.product(node.shape(index))
    counts = [count] if isinstance(count, int) else range(rank + 1)
    sets = [axes for number in counts for axes in itertools.combinations(range(rank), number)]
    if len(sets) > _MOST_BRANCHES:
        raise node.static_required(index)
    if not sets:
        raise InvalidModelError(f"there are no {count} axes that fit")
    return _chosen(node, index, sets, convert)


def _chosen(node: Node, index: int, sets: PySequence[AxisSet], convert: Callable[[AxisSet], Expr]) -> Expr:
    rank = node.rank(0)
    if len(sets) == 1:
        return convert(sets[0])
    count = as_expression(node.extents.product(node.shape(index)))
    named = node.builder.reshape(node.builder.cast(node.tensor(index), "int64"), (count,))
    one, zero = tirx.IntImm("int64", 1), tirx.IntImm("int64", 0)

    def bits(axes: te.Tensor) -> te.Tensor:
        k = te.reduce_axis((0, count), name="k")
        bit = tirx.shift_left(one, tirx.floormod(axes(k), tirx.IntImm("int64", rank)))
        total = tabulate((), lambda *_: te.sum(bit, axis=k), name="axes")
        # A loop over nothing leaves its result unwritten.
        return tabulate((), lambda *_: tirx.Select(count > zero, total(), zero), name="axes")

    return _choice(node, node.te(bits, named, name="axes"), sets, convert)


def _choice(node: Node, bits: Expr, sets: PySequence[AxisSet], convert: Callable[[AxisSet], Expr]) -> Expr:
    builder = node.builder
    if len(sets) == 1:
        return builder.bound(convert(sets[0]))
    first = builder.constant(sum(1 << axis for axis in sets[0]), "int64")
    condition = builder.emit(relax.op.equal(bits, first))
    with builder.branch() as close:
        result = builder.bound(convert(sets[0]))
        then_branch = Branch(close(result), (result,), (result,))
    with builder.branch() as close:
        result = builder.bound(_choice(node, bits, sets[1:], convert))
        else_branch = Branch(close(result), (result,), (result,))
    (chosen,) = either(builder, condition, then_branch, else_branch, node.outputs[0])
    return builder.tensor(chosen)
