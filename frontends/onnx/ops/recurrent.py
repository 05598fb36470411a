"""LSTM, GRU and RNN layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import relax, te
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import Extent, as_expression
from ..node import Node
from ..recurrent_cells import Activation, Cell, GruCell, LstmCell, Recurrence, RnnCell, activation, kernel
from ..recurrent_products import pack_recurrent_weight
from ..registry import converts
from ..tabulate import tabulate
from .matmul import product

_CELLS: dict[str, tuple[Cell, tuple[str, ...]]] = {
    "LSTM": (LstmCell(), ("Sigmoid", "Tanh", "Tanh")),
    "GRU": (GruCell(), ("Sigmoid", "Tanh")),
    "RNN": (RnnCell(), ("Tanh",)),
}


@converts("LSTM", "GRU", "RNN")
def recurrent(node: Node) -> list[Expr]:
    """X [steps, batch, input] (layout 1: [batch, steps, input]) to Y, Y_h and, for LSTM, Y_c."""
    dtype = node.dtype(0)
    wide = "float64" if dtype == "float64" else "float32"
    layer = _Layer(node, wide)
    parts = [layer.direction(index) for index in range(layer.directions)]
    outputs = [node.builder.cast(output, dtype) for output in layer.assemble(parts)]
    return outputs if node.op_type == "LSTM" else outputs[:2]


class _Layer:
    """One recurrent node, direction by direction."""

    def __init__(self, node: Node, dtype: str) -> None:
        self.node = node
        self.dtype = dtype
        self.batch_first = bool(node.integer("layout", 0))
        self.cell, self.default_activations = _CELLS[node.op_type]
        self.gates = self.cell.gates
        self.hidden = self._hidden()
        direction = node.text("direction", "forward")
        if direction not in ("forward", "reverse", "bidirectional"):
            raise InvalidModelError(f"the direction '{direction}' does not exist")
        self.directions = 2 if direction == "bidirectional" else 1
        self.reversed = [direction == "reverse", True]
        x = node.builder.cast(node.tensor(0), dtype)
        self.x = node.emit(relax.op.permute_dims(x, [1, 0, 2])) if self.batch_first else x
        self.steps, self.batch, self.inputs = node.builder.shape(self.x)

    def _hidden(self) -> int:
        extent = self.node.shape(2)[-1]
        if not isinstance(extent, int):
            raise self.node.static_required(2)
        return extent

    def direction(self, index: int) -> list[Expr]:
        """[outputs, final hidden state, final cell state] of one direction."""
        tensors = [
            self._projected(index),
            self._recurrent_weight(index),
            self._lengths(),
            self._state(5, index),
            self._state(6, index) if self.node.op_type == "LSTM" else self._state(5, index),
            *self._own(index),
        ]
        recurrence = Recurrence(
            steps=self.steps,
            batch=self.batch,
            hidden=self.hidden,
            reverse=self.reversed[index],
            activations=self._activations(index),
            clip=self.node.number("clip") if self.node.has_attribute("clip") else None,
            linear_before_reset=bool(self.node.integer("linear_before_reset", 0)),
            input_forget=bool(self.node.integer("input_forget", 0)),
            packed=isinstance(self.node.value(2), np.ndarray),
            dtype=self.dtype,
        )
        name = f"{self.node.op_type.lower()}_cell"

        def compute(*operands: te.Tensor) -> list[te.Tensor]:
            return kernel(recurrence, self.cell, operands, name)

        return list(self.node.te(compute, *tensors, name=name)[:3])

    def _projected(self, index: int) -> Expr:
        """X W^T + b for all steps at once: [steps, batch, gates * hidden]."""
        weight = self._slice(1, index, transpose=True)
        flat = self.node.builder.reshape(
            self.x, [self.node.extents.product([self.steps, self.batch]), self.inputs]
        )
        result = product(self.node.builder, flat, weight)
        if self.node.has(3):
            result = self.node.emit(relax.op.add(result, self._bias(index)))
        return self.node.builder.reshape(result, [self.steps, self.batch, self.gates * self.hidden])

    def _bias(self, index: int) -> Expr:
        """The biases that are added before the activation whatever the gates do."""
        half = self.gates * self.hidden
        bias = self._slice(3, index)
        forward, recurrent = self._cut(bias, 0, half), self._cut(bias, half, 2 * half)
        if self.node.op_type != "GRU":
            return self.node.emit(relax.op.add(forward, recurrent))
        # The candidate's recurrent bias goes into the kernel, because the reset gate may scale it.
        kept = self._cut(recurrent, 0, 2 * self.hidden)
        zeros = self.node.builder.constant(np.zeros(self.hidden, self.dtype))
        return self.node.emit(relax.op.add(forward, self.node.emit(relax.op.concat([kept, zeros], 0))))

    def _recurrent_weight(self, index: int) -> Expr:
        """Packed where it is a constant; [hidden, gates * hidden] else."""
        value = self.node.value(2)
        if not isinstance(value, np.ndarray):
            return self._slice(2, index, transpose=True)
        return self.node.builder.constant(pack_recurrent_weight(value[index].astype(self.dtype), self.gates))

    def _lengths(self) -> Expr:
        if self.node.has(4):
            return self.node.builder.cast(self.node.tensor(4), "int64")
        steps = as_expression(self.steps)
        return self.node.te(
            lambda: tabulate((self.batch,), lambda _: steps, name="sequence_lengths"),
            name="sequence_lengths",
        )

    def _state(self, position: int, index: int) -> Expr:
        """The initial state [batch, hidden]; zeros if absent."""
        if not self.node.has(position):
            shape = relax.ShapeExpr([as_expression(self.batch), as_expression(self.hidden)])
            return self.node.emit(relax.op.zeros(shape, self.dtype))
        state = self.node.builder.cast(self.node.tensor(position), self.dtype)
        if self.batch_first:
            state = self.node.emit(relax.op.permute_dims(state, [1, 0, 2]))
        agreed: list[Extent] = [self.directions, self.batch, self.hidden]
        state = self.node.builder.cast_shape(state, agreed)
        part = (
            state
            if self.directions == 1
            else self.node.emit(relax.op.strided_slice(state, [0], [index], [index + 1]))
        )
        return self.node.builder.reshape(part, agreed[1:])

    def _own(self, index: int) -> list[Expr]:
        """What only this kind of cell has: peepholes, or the candidate's recurrent bias."""
        if self.node.op_type == "LSTM":
            return [self._slice(7, index)] if self.node.has(7) else []
        if self.node.op_type == "RNN":
            return []
        if not self.node.has(3):
            return [self.node.builder.constant(np.zeros(self.hidden, self.dtype))]
        return [self._cut(self._slice(3, index), 5 * self.hidden, 6 * self.hidden)]

    def _slice(self, position: int, index: int, transpose: bool = False) -> Expr:
        """One direction's part of a parameter, as a constant where it is one."""
        value = self.node.value(position)
        if isinstance(value, np.ndarray):
            part = value[index].astype(self.dtype)
            return self.node.builder.constant(np.ascontiguousarray(part.T if transpose else part))
        tensor = self.node.builder.cast(self.node.tensor(position), self.dtype)
        shape = self.node.builder.shape(tensor)
        if shape[0] != 1:
            tensor = self.node.emit(relax.op.strided_slice(tensor, [0], [index], [index + 1]))
        flat = self.node.builder.reshape(tensor, shape[1:])
        return self.node.emit(relax.op.permute_dims(flat, [1, 0])) if transpose else flat

    def _cut(self, tensor: Expr, begin: int, end: int) -> Expr:
        return self.node.emit(relax.op.strided_slice(tensor, [0], [begin], [end]))

    def _activations(self, index: int) -> Sequence[Activation]:
        count = len(self.default_activations)
        names = self.node.texts("activations", self.default_activations * self.directions)
        alphas, betas = self.node.numbers("activation_alpha", []), self.node.numbers("activation_beta", [])
        chosen = range(index * count, (index + 1) * count)
        try:
            return [
                activation(
                    names[i], alphas[i] if i < len(alphas) else None, betas[i] if i < len(betas) else None
                )
                for i in chosen
            ]
        except (KeyError, IndexError):
            raise InvalidModelError(f"unknown or missing activation among {', '.join(names)}") from None

    def assemble(self, parts: list[list[Expr]]) -> list[Expr]:
        """Y, Y_h and Y_c in the node's layout."""
        axis_of_y = 2 if self.batch_first else 1
        axis_of_state = 1 if self.batch_first else 0
        sequences = [part[0] for part in parts]
        if self.batch_first:
            sequences = [self.node.emit(relax.op.permute_dims(s, [1, 0, 2])) for s in sequences]
        stacked = [self._stack(sequences, axis_of_y)]
        stacked += [self._stack([part[state] for part in parts], axis_of_state) for state in (1, 2)]
        return stacked

    def _stack(self, tensors: list[Expr], axis: int) -> Expr:
        raised = [self.node.emit(relax.op.expand_dims(tensor, axis)) for tensor in tensors]
        return raised[0] if len(raised) == 1 else self.node.emit(relax.op.concat(raised, axis))
