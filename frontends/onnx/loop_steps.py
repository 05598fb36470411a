"""The functions that repeat a loop's body.

A function that calls itself once a step would need a stack as deep as the loop is long. So a stretch of steps
is halved until it is short, and depth grows with the logarithm of the number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import Expr, GlobalVar, Var

from .graph_builder import GraphBuilder
from .tabulate import tabulate

# Stretches of up to so many steps are not halved: a call a step is cheaper.
_SHORT = 64


@dataclass(frozen=True)
class Steps:
    """A function that makes steps: what it takes and what it gives.

    Attributes:
        symbol: the function: (number, limit, going, state ..., captured ...) to (number, going, state ...).
        number, limit, going: its first parameters, scalars. It makes the steps from ``number`` to ``limit``.
        state: the state.
        captured: what the body reads from outside.
        result: the type of what it gives; of the state, only the ranks are known.
    """

    symbol: GlobalVar
    number: Var
    limit: Var
    going: Var
    state: list[Var]
    captured: list[Var]
    result: relax.TupleType

    @property
    def parameters(self) -> list[Var]:
        """In order."""
        return [self.number, self.limit, self.going, *self.state, *self.captured]

    @classmethod
    def declare(
        cls, builder: GraphBuilder, name: str, state: Sequence[Any], captured: Sequence[Any]
    ) -> Steps:
        """Adds a function without a body to the module, so that it may be called."""
        number, limit = (relax.Var(label, relax.TensorType((), "int64")) for label in ("step", "limit"))
        going = relax.Var("going", relax.TensorType((), "bool"))
        states = [relax.Var(f"state{place}", ty) for place, ty in enumerate(state)]
        outside = [relax.Var(f"outside{place}", ty) for place, ty in enumerate(captured)]
        kinds = [relax.TensorType(dtype=ty.dtype, ndim=ty.ndim) for ty in state]
        result = relax.TupleType([number.ty, going.ty, *kinds])
        parameters = [number, limit, going, *states, *outside]
        # From any body of known shape, the builder would conclude what shapes each call gives.
        unknown = relax.op.call_pure_packed("unknown", ty_args=result)
        empty = relax.utils.copy_with_new_vars(relax.Function(parameters, unknown, result))
        symbol = builder.block_builder.add_func(empty, name)
        return cls(symbol, number, limit, going, states, outside, result)

    def define(self, builder: GraphBuilder, body: Expr) -> None:
        """Gives the function its body, an expression of the parameters."""
        function = relax.utils.copy_with_new_vars(relax.Function(self.parameters, body, self.result))
        builder.block_builder.update_func(self.symbol, function)

    def call(self, builder: GraphBuilder, arguments: Sequence[Expr]) -> list[Expr]:
        """The results of a call, one by one."""
        made = builder.emit(relax.Call(self.symbol, arguments))
        return [builder.emit(relax.TupleGetItem(made, place)) for place in range(len(self.state) + 2)]


def steps_function(
    builder: GraphBuilder, body: GlobalVar, state: Sequence[Any], captured: Sequence[Any]
) -> GlobalVar:
    """The function that makes the steps of a loop; ``Steps`` says what it takes and gives.

    Args:
        builder: of the module.
        body: one step: (number, state ..., captured ...) to (whether to go on, state ...).
        state, captured: types.
    """
    row = Steps.declare(builder, "loop_row", state, captured)
    row.define(builder, _row(builder, row, body))
    halves = Steps.declare(builder, "loop_halves", state, captured)
    halves.define(builder, _halves(builder, halves, row))
    return halves.symbol


def _row(builder: GraphBuilder, row: Steps, body: GlobalVar) -> Expr:
    """One step, and a call for those after it."""

    def more(i: te.Tensor, end: te.Tensor, on: te.Tensor) -> te.Tensor:
        return tabulate((), lambda *_: tirx.all(i() < end(), on()), name="more_steps")

    with builder.branch() as close:
        again = builder.te(more, row.number, row.limit, row.going, name="more_steps")
        with builder.branch() as close_then:
            made = builder.emit(relax.Call(body, [row.number, *row.state, *row.captured]))
            values = [builder.emit(relax.TupleGetItem(made, place)) for place in range(len(row.state) + 1)]
            following = builder.emit(relax.op.add(row.number, builder.constant(1, "int64")))
            then = close_then(relax.Tuple(row.call(builder, [following, row.limit, *values, *row.captured])))
        with builder.branch() as close_else:
            otherwise = close_else(builder.emit(relax.Tuple([row.number, row.going, *row.state])))
        return close(builder.block_builder.emit(relax.If(again, then, otherwise)))


def _halves(builder: GraphBuilder, halves: Steps, row: Steps) -> Expr:
    """The two halves of a long stretch one after the other, or a row of steps."""

    def long(i: te.Tensor, end: te.Tensor, on: te.Tensor) -> te.Tensor:
        return tabulate((), lambda *_: tirx.all(end() - i() > _SHORT, on()), name="many_steps")

    def middle(i: te.Tensor, end: te.Tensor) -> te.Tensor:
        return tabulate((), lambda *_: i() + tirx.floordiv(end() - i(), 2), name="middle_step")

    with builder.branch() as close:
        many = builder.te(long, halves.number, halves.limit, halves.going, name="many_steps")
        with builder.branch() as close_then:
            half = builder.te(middle, halves.number, halves.limit, name="middle_step")
            first = [halves.number, half, halves.going, *halves.state, *halves.captured]
            number, *reached = halves.call(builder, first)
            second = [number, halves.limit, *reached, *halves.captured]
            then = close_then(relax.Tuple(halves.call(builder, second)))
        with builder.branch() as close_else:
            otherwise = close_else(relax.Tuple(row.call(builder, halves.parameters)))
        return close(builder.block_builder.emit(relax.If(many, then, otherwise)))
