"""Recurrent layers as kernels: a loop over time inside, sequences of a batch side by side.

The input's projection (all time steps at once) is a matrix product outside; a kernel does what depends on the
previous step. Equations: the ONNX operator specification of LSTM, GRU and RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from .extents import Extent, as_expression
from .recurrent_products import Place, add_products, over_vectors, sequences_in_a_tile

Activation = Callable[[Any], Expr]


@dataclass(frozen=True)
class Recurrence:
    """One direction of a recurrent layer.

    Attributes:
        steps, batch: extents of the input [steps, batch, ...].
        hidden: length of the state.
        reverse: whether time runs backward (within each sequence's own length).
        activations: the functions f, g, h of the specification, as many as the cell has.
        clip: bound of the activations' arguments, or None.
        linear_before_reset: GRU only: multiply by the reset gate after the recurrent product.
        input_forget: LSTM only: the forget gate is 1 - input gate.
        packed: whether the recurrent weight is packed, by ``pack_recurrent_weight``.
        dtype: element type of everything.
    """

    steps: Extent
    batch: Extent
    hidden: int
    reverse: bool
    activations: Sequence[Activation]
    clip: float | None
    linear_before_reset: bool
    input_forget: bool
    packed: bool
    dtype: str


def activation(name: str, alpha: float | None, beta: float | None) -> Activation:
    """An activation function of the specification's list. Raises KeyError for an unknown name."""
    a, b = _defaults(name, alpha, beta)

    def c(value: float, x: Any) -> Expr:
        return tirx.const(value, x.ty.dtype)

    def rectified(x: Any) -> Expr:
        return tirx.max(x, c(0, x))

    functions: dict[str, Activation] = {
        "sigmoid": lambda x: c(1, x) / (c(1, x) + tirx.exp(-x)),
        "tanh": tirx.tanh,
        "relu": rectified,
        "affine": lambda x: c(a, x) * x + c(b, x),
        "leakyrelu": lambda x: tirx.Select(x < c(0, x), c(a, x) * x, x),
        "thresholdedrelu": lambda x: tirx.Select(x >= c(a, x), x, c(0, x)),
        "scaledtanh": lambda x: c(a, x) * tirx.tanh(c(b, x) * x),
        "hardsigmoid": lambda x: tirx.max(tirx.min(c(a, x) * x + c(b, x), c(1, x)), c(0, x)),
        "elu": lambda x: tirx.Select(x >= c(0, x), x, c(a, x) * (tirx.exp(x) - c(1, x))),
        "softsign": lambda x: x / (c(1, x) + tirx.abs(x)),
        "softplus": lambda x: rectified(x) + tirx.log1p(tirx.exp(-tirx.abs(x))),
    }
    return functions[name.lower()]


def _defaults(name: str, alpha: float | None, beta: float | None) -> tuple[float, float]:
    known = {
        "affine": (1.0, 0.0),
        "leakyrelu": (0.01, 0.0),
        "thresholdedrelu": (1.0, 0.0),
        "scaledtanh": (1.0, 1.0),
        "hardsigmoid": (0.2, 0.5),
        "elu": (1.0, 0.0),
    }
    a, b = known.get(name.lower(), (0.0, 0.0))
    return a if alpha is None else alpha, b if beta is None else beta


@dataclass(frozen=True)
class Memory:
    """The buffers of a kernel, indexed by sequence first where they have one.

    Attributes:
        projected: input times input weights plus biases, [steps, batch, gates * hidden].
        weight: the recurrent weights; see ``recurrent_products``.
        own: what the cell alone knows.
        state, cell: [batch, hidden]; a cell without a second state may use ``cell`` as it likes.
        scratch: [batch, gates * hidden].
    """

    projected: Any
    weight: Any
    own: Sequence[Any]
    state: Any
    cell: Any
    scratch: Any


class Cell(Protocol):
    """One step of a kind of layer.

    Attributes:
        gates: how many vectors of the hidden length a step computes.
    """

    gates: int

    def products(self, r: Recurrence, memory: Memory, tile: Sequence[Place]) -> None:
        """Emits what multiplies by weights, for all sequences of ``tile`` at once."""

    def update(self, r: Recurrence, memory: Memory, place: Place) -> None:
        """Emits what is left to do for one sequence, up to its new state."""


def kernel(recurrence: Recurrence, cell: Cell, tensors: Sequence[te.Tensor], name: str) -> list[te.Tensor]:
    """The loop over time.

    Args:
        cell: what a step computes.
        tensors: projected input [steps, batch, gates * hidden], recurrent weight, lengths [batch] (int64),
            initial states [batch, hidden] (two for an LSTM), then what the cell alone knows.

    Returns:
        Outputs [steps, batch, hidden], final hidden state [batch, hidden], final cell state (the same for
        a cell without), and scratch memory.
    """
    r = recurrence
    hidden, width = r.hidden, cell.gates * r.hidden
    shapes = [(r.steps, r.batch, hidden), (r.batch, hidden), (r.batch, hidden), (r.batch, width)]

    def body(inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        projected, weight, lengths, *initial = (T.buffer_proxy(buffer) for buffer in inputs)
        result, *states, scratch = (T.buffer_proxy(buffer) for buffer in outputs)
        state, cell_state = states
        memory = Memory(projected, weight, initial[2:], state, cell_state, scratch)
        rows = sequences_in_a_tile(r.batch, cell.gates)
        with IRBuilder() as ib:
            with T.seq_scope(), T.parallel(0, as_expression(r.batch) // rows) as tile:
                sequences = [tile * rows + row for row in range(rows)]
                for b in sequences:
                    for to, source in zip(states, initial[:2], strict=True):
                        _copy(to, source, b, hidden)
                with T.serial(0, as_expression(r.steps)) as s:
                    tile_now = [Place(b, _time(r, lengths, b, s)) for b in sequences]
                    cell.products(r, memory, tile_now)
                    for place in tile_now:
                        _finish_step(r, cell, memory, result, place, s, lengths)
            return ib.get()

    outputs: list[te.Tensor] = te.extern(
        [tuple(as_expression(extent) for extent in shape) for shape in shapes],
        list(tensors),
        body,
        dtype=[r.dtype] * 4,
        name=name,
    )
    return outputs


def _time(r: Recurrence, lengths: Any, b: Any, s: Any) -> Any:
    """The place of step ``s`` in its sequence; beyond its end anywhere in it, as products are not used."""
    return tirx.max(lengths[b] - 1 - s, 0) if r.reverse else s


def _finish_step(
    r: Recurrence, cell: Cell, memory: Memory, result: Any, place: Place, s: Any, lengths: Any
) -> None:
    b, t = place.sequence, place.time
    with T.If(s < lengths[b]):
        with T.Then():
            cell.update(r, memory, place)
            over_vectors(r.hidden, lambda j: _store(result, (t, b, j), memory.state[b, j]))
        with T.Else():
            over_vectors(r.hidden, lambda j: _store(result, (s, b, j), tirx.const(0, r.dtype)))


def _copy(to: Any, source: Any, b: Any, hidden: int) -> None:
    over_vectors(hidden, lambda j: _store(to, (b, j), source[b, j]))


def _store(buffer: Any, place: tuple[Any, ...], value: Any) -> None:
    buffer[place] = value


class LstmCell:
    """Gates i, o, f, c in this order; own: peepholes, [3 * hidden], in the order i, o, f, or nothing."""

    gates = 4

    def products(self, r: Recurrence, memory: Memory, tile: Sequence[Place]) -> None:
        add_products(r, memory, tile, range(4), memory.state)

    def update(self, r: Recurrence, memory: Memory, place: Place) -> None:
        b, hidden = place.sequence, r.hidden
        f, g, h = r.activations
        peepholes = memory.own[0] if memory.own else None

        def unit(j: Any) -> None:
            old = memory.cell[b, j]
            gate = [memory.scratch[b, j + k * hidden] for k in range(4)]
            if peepholes is not None:
                gate[0] = gate[0] + peepholes[j] * old
                gate[2] = gate[2] + peepholes[j + 2 * hidden] * old
            entrance = f(_clipped(r, gate[0]))
            keep = tirx.const(1, r.dtype) - entrance if r.input_forget else f(_clipped(r, gate[2]))
            memory.cell[b, j] = keep * old + entrance * g(_clipped(r, gate[3]))
            exit_gate = gate[1]
            if peepholes is not None:
                exit_gate = exit_gate + peepholes[j + hidden] * memory.cell[b, j]
            memory.state[b, j] = f(_clipped(r, exit_gate)) * h(memory.cell[b, j])

        over_vectors(hidden, unit)


class GruCell:
    """Gates z, r, h in this order; own: the recurrent bias of h, [hidden]. ``cell`` holds the reset state."""

    gates = 3

    def products(self, r: Recurrence, memory: Memory, tile: Sequence[Place]) -> None:
        def start(place: Place, gate: int, column: Any) -> Any:
            if gate == 2:
                return memory.own[0][column - 2 * r.hidden]
            return memory.projected[place.time, place.sequence, column]

        if r.linear_before_reset:
            add_products(r, memory, tile, range(3), memory.state, start)
            return
        add_products(r, memory, tile, range(2), memory.state)
        for place in tile:
            over_vectors(r.hidden, partial(self._reset, r, memory, place.sequence))
        add_products(r, memory, tile, [2], memory.cell, start)

    def _reset(self, r: Recurrence, memory: Memory, b: Any, j: Any) -> None:
        reset = r.activations[0](_clipped(r, memory.scratch[b, j + r.hidden]))
        memory.cell[b, j] = reset * memory.state[b, j]

    def update(self, r: Recurrence, memory: Memory, place: Place) -> None:
        b, t, hidden = place.sequence, place.time, r.hidden
        f, g = r.activations

        def unit(j: Any) -> None:
            recurrent = memory.scratch[b, j + 2 * hidden]
            if r.linear_before_reset:
                recurrent = recurrent * f(_clipped(r, memory.scratch[b, j + hidden]))
            candidate = g(_clipped(r, memory.projected[t, b, j + 2 * hidden] + recurrent))
            update = f(_clipped(r, memory.scratch[b, j]))
            memory.state[b, j] = (tirx.const(1, r.dtype) - update) * candidate + update * memory.state[b, j]

        over_vectors(hidden, unit)


class RnnCell:
    """A single gate."""

    gates = 1

    def products(self, r: Recurrence, memory: Memory, tile: Sequence[Place]) -> None:
        add_products(r, memory, tile, [0], memory.state)

    def update(self, r: Recurrence, memory: Memory, place: Place) -> None:
        b = place.sequence
        activation = r.activations[0]
        over_vectors(
            r.hidden, lambda j: _store(memory.state, (b, j), activation(_clipped(r, memory.scratch[b, j])))
        )


def _clipped(r: Recurrence, x: Any) -> Any:
    if r.clip is None:
        return x
    return tirx.max(tirx.min(x, tirx.const(r.clip, r.dtype)), tirx.const(-r.clip, r.dtype))
