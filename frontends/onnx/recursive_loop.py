"""Loops whose number of steps only the run can tell, as functions that call themselves.

Relax has no loops. One function is the body, others repeat it (``loop_steps.py``). What the body collects is
state, too: a tensor that each step makes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr, GlobalVar, Var

from ...runtime.errors import InvalidModelError
from .extents import Extent, as_expression
from .graph_builder import GraphBuilder
from .loop_steps import steps_function
from .node import Node
from .structures import as_run_time, leaves, like_kind, rebuilt
from .tabulate import tabulate
from .values import RunTimeOptional, RunTimeSequence, Sequence, Value

_Shape = tuple[Extent | None, ...]


Results = tuple[Value, list[Value], list[Value]]
"""Whether to go on, the state, and what is collected."""
Step = Callable[[Expr, list[Value]], Results]
"""The body, given the step's number and the state."""


@dataclass(frozen=True)
class _Body:
    """The body as a function.

    Attributes:
        symbol: takes the step's number, the state, what was collected, and ``captured``; returns the
            condition, the state and what is collected by then.
        state: the parameters' types, in which extents that differ between steps are dimensions of their own.
        captured: what the body reads from outside.
    """

    symbol: GlobalVar
    state: list[relax.TensorType]
    captured: list[Expr]


def recursive_loop(node: Node) -> list[Value]:
    """The outputs of a Loop."""
    initial = list(node.inputs[2:])
    for value in initial:
        if value is None or isinstance(value, RunTimeOptional):
            # Whether an optional is there is structure, so what decides it must be known.
            known = node.value(0) is None or isinstance(node.value(0), np.ndarray)
            raise node.static_required(1 if known else 0)

    def body(number: Expr, state: list[Value]) -> Results:
        condition, *values = node.run_subgraph("body", [number, np.array(True), *state])
        return condition, values[: len(state)], values[len(state) :]

    limit = node.tensor(0) if node.has(0) else node.builder.constant(np.iinfo(np.int64).max, "int64")
    going = node.tensor(1) if node.has(1) else node.builder.constant(True, "bool")
    return repeated(node, (limit, going), initial, body)


def repeated(node: Node, until: tuple[Expr, Expr], initial: list[Value], step: Step) -> list[Value]:
    """The state after the last step, and what the steps collected.

    Args:
        node: for messages and names.
        until: the largest number of steps, and whether there is a first one.
        initial: the state before the first step.
        step: one step.
    """
    builder = node.builder
    templates = _of_settled_kind(node, initial, step)
    state = [builder.bound(leaf) for value in templates for leaf in leaves(builder, value)]
    shapes: list[_Shape] = [builder.shape(tensor) for tensor in state]
    for _ in range(sum(map(len, shapes)) + 1):
        body, grown, kept = _body(node, templates, state, shapes, step)
        if grown == shapes:
            types = [str(ty.dtype.dtype) for ty in body.state[len(state) :]]
            empty = [_nothing(builder, *entry) for entry in zip(kept, types, strict=True)]
            results = _run(node, until, body, [*state, *empty])
            return [*rebuilt(templates, results[: len(state)]), *results[len(state) :]]
        shapes = grown
    raise InvalidModelError("the extents of a loop's state never settle")


def _of_settled_kind(node: Node, initial: list[Value], step: Step) -> list[Value]:
    """The state with sequences of unknown length; a step tells what the entries of an empty one will be."""
    if not any(isinstance(value, Sequence) for value in initial):
        return initial
    with node.builder.branch():  # is never closed, so what it emits is lost
        _, after, _ = step(node.builder.constant(0, "int64"), list(initial))
    kinds = [as_run_time(node.builder, value) for value in after]
    settled = []
    for value, kind in zip(initial, kinds, strict=True):
        if isinstance(value, Sequence):
            value = like_kind(node.builder, value, kind)
        if value is None:
            raise node.static_required(0)
        settled.append(value)
    return settled


def _body(
    node: Node, templates: list[Value], state: list[Expr], shapes: list[_Shape], step: Step
) -> tuple[_Body, list[_Shape], list[_Shape]]:
    """The body, the state's shapes widened by what a step changes, and the shapes of what it collects."""
    builder = node.builder
    outer = set(builder.extents.variables.values())
    number = relax.Var("step", relax.TensorType((), "int64"))
    parameters = [
        relax.Var(f"state{place}", _typed(builder, shape, builder.dtype(tensor)))
        for place, (tensor, shape) in enumerate(zip(state, shapes, strict=True))
    ]
    with builder.branch() as close:
        condition, after, collects = step(number, rebuilt(templates, parameters))
        fresh = _checked_leaves(node, templates, after)
        entries = [builder.bound(builder.tensor(value)) for value in collects]
        kept = [_steady(builder, entry, outer) for entry in entries]
        collected = [
            relax.Var("collected", _typed(builder, (None, *shape), builder.dtype(entry)))
            for shape, entry in zip(kept, entries, strict=True)
        ]
        longer = [_longer(builder, so_far, entry) for so_far, entry in zip(collected, entries, strict=True)]
        goes_on = builder.reshape(builder.cast(builder.tensor(condition), "bool"), ())
        body = close(relax.Tuple([goes_on, *fresh, *longer]))
    grown = [
        _widened(builder, shape, parameter, tensor)
        for shape, parameter, tensor in zip(shapes, parameters, fresh, strict=True)
    ]
    own = [number, *parameters, *collected]
    symbol, captured = _function(builder, own, body)
    return _Body(symbol, [v.ty for v in own[1:]], captured), grown, kept


def _checked_leaves(node: Node, templates: list[Value], after: list[Value]) -> list[Expr]:
    """The state after a step as tensors. Raises StaticInputRequired where a value becomes of another kind."""
    found: list[Expr] = []
    for before, value in zip(templates, after, strict=True):
        now = as_run_time(node.builder, value)
        if isinstance(before, RunTimeSequence) != isinstance(now, RunTimeSequence) or now is None:
            raise node.static_required(0)
        found += [node.builder.bound(leaf) for leaf in leaves(node.builder, now)]
    return found


def _typed(builder: GraphBuilder, shape: _Shape, dtype: str) -> relax.TensorType:
    extents = [builder.extents.fresh("loop") if extent is None else extent for extent in shape]
    return relax.TensorType([as_expression(extent) for extent in extents], dtype)


def _steady(builder: GraphBuilder, entry: Expr, outer: set[Var]) -> _Shape:
    """An entry's extents, None where only the body knows them."""
    return tuple(
        extent if isinstance(extent, int) or set(tirx.analysis.undefined_vars(extent)) <= outer else None
        for extent in builder.shape(entry)
    )


def _longer(builder: GraphBuilder, so_far: Expr, entry: Expr) -> Expr:
    """One more entry. Before the first one, the unknown extents of ``so_far`` are zero."""
    count = builder.shape(so_far)[0]
    shape = (builder.extents.simplify(count + 1), *builder.shape(entry))

    def compute(old: te.Tensor, new: te.Tensor) -> te.Tensor:
        def element(i: Any, *rest: Any) -> Expr:
            return tirx.if_then_else(i < as_expression(count), old(i, *rest), new(*rest))

        return tabulate(shape, element, name="append")

    return builder.te(compute, so_far, entry, name="append")


def _nothing(builder: GraphBuilder, shape: _Shape, dtype: str) -> Expr:
    """No entries yet."""
    extents = [0 if extent is None else extent for extent in (0, *shape)]
    return builder.emit(relax.op.zeros(relax.ShapeExpr(list(map(as_expression, extents))), dtype))


def _widened(builder: GraphBuilder, shape: _Shape, before: Expr, after: Expr) -> _Shape:
    old, new = builder.shape(before), builder.shape(after)
    if len(old) != len(new):
        raise InvalidModelError("the rank of a loop's state changes from step to step")
    return tuple(
        None if extent is None or not builder.extents.equal(a, b) else extent
        for extent, a, b in zip(shape, old, new, strict=True)
    )


def _function(builder: GraphBuilder, own: list[Var], body: Expr) -> tuple[GlobalVar, list[Expr]]:
    """A private function of ``own`` and of what ``body`` reads from outside: tensors, and a shape."""
    normal = builder.block_builder.normalize(body)
    outside = [
        var
        for var in relax.analysis.free_vars(normal)
        if isinstance(var.ty, relax.TensorType) and var not in own
    ]
    dimensions = list(relax.analysis.free_symbolic_vars(relax.Function([*own, *outside], normal)))
    extra = [relax.Var("dimensions", relax.ShapeType(dimensions))] if dimensions else []
    function = relax.utils.copy_with_new_vars(relax.Function([*own, *outside, *extra], normal))
    shapes = [relax.ShapeExpr(dimensions)] if dimensions else []
    return builder.block_builder.add_func(function, "loop_body"), [*outside, *shapes]


def _run(node: Node, until: tuple[Expr, Expr], body: _Body, initial: list[Expr]) -> list[Expr]:
    builder = node.builder
    limit, going = until
    scalars = [
        builder.constant(0, "int64"),
        builder.bound(builder.reshape(builder.cast(limit, "int64"), ())),
        builder.bound(builder.reshape(going, ())),
    ]
    captured = [value.ty for value in body.captured]
    symbol = steps_function(builder, body.symbol, body.state, captured)
    result = builder.emit(relax.Call(symbol, [*scalars, *initial, *body.captured]))
    return [
        _item(builder, result, place + 2, start, ty)
        for place, (start, ty) in enumerate(zip(initial, body.state, strict=True))
    ]


def _item(builder: GraphBuilder, result: Expr, place: int, initial: Expr, ty: Any) -> Expr:
    """One of the results; extents that stay what they were are known."""
    first = builder.shape(initial)
    shape = [
        old if builder.extents.equal(builder.extents.simplify(new), old) else builder.extents.fresh("looped")
        for old, new in zip(first, ty.shape.values, strict=True)
    ]
    return builder.cast_shape(builder.block_builder.emit(relax.TupleGetItem(result, place)), shape)
