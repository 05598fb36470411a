"""Conditionals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError, RelaxcError, StaticInputRequired
from ..extents import Extent, as_expression
from ..node import Node
from ..registry import converts
from ..values import Sequence, SymbolicArray, Value


@dataclass(frozen=True)
class _Branch:
    """One converted branch: its bindings, closed around a tuple of its results."""

    body: Expr
    results: tuple[Expr, ...]


@converts("If")
def conditional(node: Node) -> list[Value]:
    """A branch that is certain is converted in place; otherwise both become a Relax If.

    Branches whose results differ in rank or type cannot both be compiled. If the condition is about
    extents, the one that the rest of the model can use is taken and the condition is checked at run time.
    """
    condition = node.value(0)
    if isinstance(condition, np.ndarray):
        return node.run_subgraph("then_branch" if bool(condition.reshape(-1)[0]) else "else_branch")
    if isinstance(condition, SymbolicArray):
        return _on_extents(node, condition.elements.reshape(-1)[0])
    then_branch, else_branch = _attempt(node, "then_branch"), _attempt(node, "else_branch")
    if isinstance(then_branch, RelaxcError) and isinstance(else_branch, RelaxcError):
        raise then_branch
    if isinstance(then_branch, RelaxcError):
        assert isinstance(else_branch, _Branch)
        then_branch = _impossible(node, else_branch)
    elif isinstance(else_branch, RelaxcError):
        else_branch = _impossible(node, then_branch)
    elif not _same_types(node, then_branch, else_branch):
        raise _undecidable(node)
    return _both(node, node.tensor(0), then_branch, else_branch)


def _on_extents(node: Node, condition: Expr) -> list[Value]:
    then_branch, else_branch = _attempt(node, "then_branch"), _attempt(node, "else_branch")
    if isinstance(then_branch, RelaxcError) and isinstance(else_branch, RelaxcError):
        raise then_branch
    if (
        isinstance(then_branch, _Branch)
        and isinstance(else_branch, _Branch)
        and _same_types(node, then_branch, else_branch)
    ):
        return _both(node, node.tensor(0), then_branch, else_branch)
    if isinstance(then_branch, _Branch) and isinstance(else_branch, _Branch):
        taken = node.choices.next()
    else:
        taken = isinstance(then_branch, _Branch)
    node.builder.require(condition if taken else tirx.Not(condition))
    return node.run_subgraph("then_branch" if taken else "else_branch")


def _attempt(node: Node, name: str) -> _Branch | RelaxcError:
    try:
        return _convert(node, name)
    except RelaxcError as error:
        return error


def _impossible(node: Node, other: _Branch) -> _Branch:
    """Stands for a branch that cannot work with these shapes: ends the run with an error if it is taken."""
    builder = node.builder
    with builder.branch() as close:
        builder.require(tirx.const(False, "bool"))
        shapes = [
            relax.ShapeExpr(list(map(as_expression, builder.shape(result)))) for result in other.results
        ]
        results = tuple(
            builder.emit(relax.op.zeros(shape, builder.dtype(result)))
            for shape, result in zip(shapes, other.results, strict=True)
        )
        return _Branch(close(relax.Tuple(results) if len(results) > 1 else results[0]), results)


def _convert(node: Node, name: str) -> _Branch:
    with node.builder.branch() as close:
        values = node.run_subgraph(name)
        if any(value is None or isinstance(value, Sequence) for value in values):
            raise node.static_required(0)
        results = tuple(node.builder.bound(node.builder.tensor(value)) for value in values)
        return _Branch(close(relax.Tuple(results) if len(results) > 1 else results[0]), results)


def _same_types(node: Node, a: _Branch, b: _Branch) -> bool:
    builder = node.builder
    return all(
        len(builder.shape(x)) == len(builder.shape(y)) and builder.dtype(x) == builder.dtype(y)
        for x, y in zip(a.results, b.results, strict=True)
    )


def _both(node: Node, condition: Expr, then_branch: _Branch, else_branch: _Branch) -> list[Value]:
    builder = node.builder
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
        builder.cast_shape(value, _merged(node, x, y))
        for value, x, y in zip(values, then_branch.results, else_branch.results, strict=True)
    ]


def _merged(node: Node, a: Expr, b: Expr) -> list[Extent]:
    """The extents that both branches share; a new dimension wherever they differ."""
    pairs = zip(node.builder.shape(a), node.builder.shape(b), strict=True)
    return [
        x if node.extents.equal(x, y) else node.extents.fresh(f"{node.outputs[0]}_d{axis}")
        for axis, (x, y) in enumerate(pairs)
    ]


def _undecidable(node: Node) -> RelaxcError:
    error = node.static_required(0)
    if error.names:
        return StaticInputRequired(f"the branches differ in rank or type; {error}", error.names)
    return InvalidModelError(
        "the branches differ in rank or type, and the condition is known only at run time"
    )
