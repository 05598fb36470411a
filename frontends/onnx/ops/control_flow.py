"""Conditionals."""

from __future__ import annotations

import numpy as np
from tvm import relax, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError, RelaxcError, StaticInputRequired
from ..branches import Branch, closed, either, same_types
from ..extents import as_expression
from ..node import Node
from ..registry import converts
from ..structures import as_run_time, leaves, rebuilt
from ..values import SymbolicArray, Value


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
        assert isinstance(else_branch, Branch)
        then_branch = _impossible(node, else_branch)
    elif isinstance(else_branch, RelaxcError):
        else_branch = _impossible(node, then_branch)
    elif not same_types(node.builder, then_branch, else_branch):
        raise _undecidable(node)
    return either(node.builder, node.tensor(0), then_branch, else_branch, node.outputs[0])


def _on_extents(node: Node, condition: Expr) -> list[Value]:
    then_branch, else_branch = _attempt(node, "then_branch"), _attempt(node, "else_branch")
    if isinstance(then_branch, RelaxcError) and isinstance(else_branch, RelaxcError):
        raise then_branch
    if (
        isinstance(then_branch, Branch)
        and isinstance(else_branch, Branch)
        and same_types(node.builder, then_branch, else_branch)
    ):
        return either(node.builder, node.tensor(0), then_branch, else_branch, node.outputs[0])
    if isinstance(then_branch, Branch) and isinstance(else_branch, Branch):
        taken = node.choices.next()
    else:
        taken = isinstance(then_branch, Branch)
    node.builder.require(condition if taken else tirx.Not(condition))
    return node.run_subgraph("then_branch" if taken else "else_branch")


def _attempt(node: Node, name: str) -> Branch | RelaxcError:
    try:
        return _convert(node, name)
    except RelaxcError as error:
        return error


def _impossible(node: Node, other: Branch) -> Branch:
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
        return Branch(close(closed(results)), results, tuple(rebuilt(other.values, results)))


def _convert(node: Node, name: str) -> Branch:
    builder = node.builder
    with builder.branch() as close:
        values = [as_run_time(builder, value) for value in node.run_subgraph(name)]
        if any(value is None for value in values):
            raise node.static_required(0)
        results = tuple(builder.bound(leaf) for value in values for leaf in leaves(builder, value))
        return Branch(close(closed(results)), results, tuple(rebuilt(values, results)))


def _undecidable(node: Node) -> RelaxcError:
    error = node.static_required(0)
    if error.names:
        return StaticInputRequired(f"the branches differ in rank or type; {error}", error.names)
    return InvalidModelError(
        "the branches differ in rank or type, and the condition is known only at run time"
    )
