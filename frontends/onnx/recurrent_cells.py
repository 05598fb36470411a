"""Recurrent layers as kernels: a loop over time inside, sequences of a batch side by side.

The input's projection (all time steps at once) is a matrix product outside; a kernel does what depends on the
previous step. Equations: the ONNX operator specification of LSTM, GRU and RNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from .extents import Extent, as_expression

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


Step = Callable[..., None]


def kernel(
    recurrence: Recurrence, gates: int, step: Step, tensors: Sequence[te.Tensor], name: str
) -> list[te.Tensor]:
    """The loop over time.

    Args:
        gates: how many vectors of the hidden length a step computes.
        step: emits one step of one sequence, given the buffers and positions.
        tensors: projected input [steps, batch, gates * hidden], recurrent weight [hidden, gates * hidden],
            lengths [batch] (int64), initial states [batch, hidden] (two for an LSTM), then what the
            cell alone knows.

    Returns:
        Outputs [steps, batch, hidden], final hidden state [batch, hidden], final cell state (the same for
        a cell without), and scratch memory.
    """
    r = recurrence
    hidden = r.hidden
    shapes = [(r.steps, r.batch, hidden), (r.batch, hidden), (r.batch, hidden), (r.batch, gates * hidden)]

    def body(inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        source = [T.buffer_proxy(buffer) for buffer in inputs]
        result, state, cell, scratch = (T.buffer_proxy(buffer) for buffer in outputs)
        lengths, initial, initial_cell = source[2], source[3], source[4]
        with IRBuilder() as ib:
            with T.seq_scope(), T.parallel(0, as_expression(r.batch)) as b:
                with T.serial(0, hidden) as j:
                    state[b, j] = initial[b, j]
                    cell[b, j] = initial_cell[b, j]
                with T.serial(0, as_expression(r.steps)) as s, T.If(s < lengths[b]):
                    with T.Then():
                        t = lengths[b] - 1 - s if r.reverse else s
                        step(r, source, (state, cell, scratch), b, t)
                        with T.serial(0, hidden) as j:
                            result[t, b, j] = state[b, j]
                    with T.Else(), T.serial(0, hidden) as j:
                        result[s, b, j] = tirx.const(0, r.dtype)
            return ib.get()

    result: list[te.Tensor] = te.extern(
        [tuple(as_expression(extent) for extent in shape) for shape in shapes],
        list(tensors),
        body,
        dtype=[r.dtype] * 4,
        name=name,
    )
    return result


def lstm_step(r: Recurrence, source: Sequence[Any], memory: Sequence[Any], b: Any, t: Any) -> None:
    """i, o, f, c in this order; peepholes are source[5], [3 * hidden], in the order i, o, f."""
    state, cell, scratch = memory
    peepholes = source[5] if len(source) > 5 else None
    f, g, h = r.activations
    hidden = r.hidden
    _recur(r, source, state, scratch, b, t, 0, 4 * hidden)
    with T.serial(0, hidden) as j:
        old = cell[b, j]
        gate = [scratch[b, j + k * hidden] for k in range(4)]
        if peepholes is not None:
            gate[0] = gate[0] + peepholes[j] * old
            gate[2] = gate[2] + peepholes[j + 2 * hidden] * old
        entrance = f(_clipped(r, gate[0]))
        keep = tirx.const(1, r.dtype) - entrance if r.input_forget else f(_clipped(r, gate[2]))
        cell[b, j] = keep * old + entrance * g(_clipped(r, gate[3]))
        exit_gate = gate[1]
        if peepholes is not None:
            exit_gate = exit_gate + peepholes[j + hidden] * cell[b, j]
        state[b, j] = f(_clipped(r, exit_gate)) * h(cell[b, j])


def gru_step(r: Recurrence, source: Sequence[Any], memory: Sequence[Any], b: Any, t: Any) -> None:
    """z, r, h in this order; source[5] is the recurrent bias of h, [hidden]."""
    state, reset_state, scratch = memory
    f, g = r.activations
    hidden = r.hidden
    _recur(r, source, state, scratch, b, t, 0, 2 * hidden)
    with T.serial(0, hidden) as j:
        scratch[b, j] = f(_clipped(r, scratch[b, j]))
        scratch[b, j + hidden] = f(_clipped(r, scratch[b, j + hidden]))
        reset_state[b, j] = state[b, j] if r.linear_before_reset else scratch[b, j + hidden] * state[b, j]
    projected, weight, bias = source[0], source[1], source[5]
    with T.serial(0, hidden) as j:
        scratch[b, j + 2 * hidden] = bias[j]
        with T.serial(0, hidden) as k:
            total = scratch[b, j + 2 * hidden]
            scratch[b, j + 2 * hidden] = total + reset_state[b, k] * weight[k, j + 2 * hidden]
    with T.serial(0, hidden) as j:
        recurrent = scratch[b, j + 2 * hidden]
        if r.linear_before_reset:
            recurrent = recurrent * scratch[b, j + hidden]
        candidate = g(_clipped(r, projected[t, b, j + 2 * hidden] + recurrent))
        update = scratch[b, j]
        state[b, j] = (tirx.const(1, r.dtype) - update) * candidate + update * state[b, j]


def rnn_step(r: Recurrence, source: Sequence[Any], memory: Sequence[Any], b: Any, t: Any) -> None:
    state, _, scratch = memory
    _recur(r, source, state, scratch, b, t, 0, r.hidden)
    with T.serial(0, r.hidden) as j:
        state[b, j] = r.activations[0](_clipped(r, scratch[b, j]))


def _recur(
    r: Recurrence, source: Sequence[Any], state: Any, scratch: Any, b: Any, t: Any, first: int, count: int
) -> None:
    """scratch[b, first : first + count] = projected input + state @ recurrent weight, a vector at a time."""
    projected, weight = source[0], source[1]
    width = next(w for w in (16, 8, 4, 2, 1) if count % w == 0)
    with T.serial(0, count // width) as block:
        with T.vectorized(0, width) as lane:
            column = first + block * width + lane
            scratch[b, column] = projected[t, b, column]
        with T.serial(0, r.hidden) as k, T.vectorized(0, width) as lane:
            column = first + block * width + lane
            scratch[b, column] = scratch[b, column] + state[b, k] * weight[k, column]


def _clipped(r: Recurrence, x: Any) -> Any:
    if r.clip is None:
        return x
    return tirx.max(tirx.min(x, tirx.const(r.clip, r.dtype)), tirx.const(-r.clip, r.dtype))
