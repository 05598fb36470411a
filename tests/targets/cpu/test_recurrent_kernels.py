"""LSTM, GRU and RNN layers against NumPy: batches and states that fill no vector, lengths, directions.

Their kernels are written as loops where the importer meets them, so the layers come as ONNX nodes, of which
many make one model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import helper

import relaxc
from tests.targets.kernel_workloads import TOLERANCE, Target, normal

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class Layer:
    """A recurrent layer and what goes into it.

    Attributes:
        kind: LSTM, GRU or RNN.
        direction: forward, reverse or bidirectional.
        constant: whether the weights are known when compiling.
        linear_before_reset: GRU only.
        tensors: by ONNX's names. X [steps, batch, input], W and R by direction; B, sequence_lens, initial_h,
            and LSTM's initial_c and P may be absent.
    """

    kind: str
    direction: str
    constant: bool
    linear_before_reset: bool
    tensors: dict[str, np.ndarray]

    @property
    def hidden(self) -> int:
        return int(self.tensors["R"].shape[2])


INPUTS = {
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
}


def random_layer(generator: np.random.Generator) -> Layer:
    kind = str(generator.choice(["LSTM", "LSTM", "GRU", "GRU", "RNN"]))
    direction = str(generator.choice(["forward", "reverse", "bidirectional"]))
    directions = 2 if direction == "bidirectional" else 1
    steps, batch = (int(n) for n in generator.integers(1, (8, 7)))
    inputs = int(generator.choice([1, 3, 16, 40]))
    hidden = int(generator.choice([1, 5, 8, 15, 16, 17, 32, 33, 48, 70]))
    rows = GATES[kind] * hidden
    every = {
        "X": normal(generator, steps, batch, inputs),
        "W": normal(generator, directions, rows, inputs) / np.float32(np.sqrt(inputs)),
        "R": normal(generator, directions, rows, hidden) / np.float32(np.sqrt(hidden)),
        "B": normal(generator, directions, 2 * rows),
        "sequence_lens": generator.integers(1, steps + 1, batch).astype(np.int32),
        "initial_h": normal(generator, directions, batch, hidden),
        "initial_c": normal(generator, directions, batch, hidden),
        "P": normal(generator, directions, 3 * hidden),
    }
    kept = [name for name in INPUTS[kind] if name in ("X", "W", "R") or generator.random() < 0.5]
    return Layer(
        kind,
        direction,
        constant=bool(generator.random() < 0.8),
        linear_before_reset=kind == "GRU" and bool(generator.random() < 0.5),
        tensors={name: every[name] for name in kept},
    )


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))


def lstm_step(layer: Layer, d: int, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Sequence[np.ndarray]:
    """The next state and cell of one sequence in direction ``d``; gates stand in the order i, o, f, c."""
    bias = np.zeros(8 * h.size) if "B" not in layer.tensors else layer.tensors["B"][d]
    gates = layer.tensors["W"][d] @ x + layer.tensors["R"][d] @ h + bias[: 4 * h.size] + bias[4 * h.size :]
    i, o, f, g = np.split(gates, 4)
    p = np.zeros(3 * h.size) if "P" not in layer.tensors else layer.tensors["P"][d]
    p_i, p_o, p_f = np.split(p, 3)
    cell = sigmoid(f + p_f * c) * c + sigmoid(i + p_i * c) * np.tanh(g)
    return sigmoid(o + p_o * cell) * np.tanh(cell), cell


def gru_step(layer: Layer, d: int, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Sequence[np.ndarray]:
    """As ``lstm_step``; gates stand in the order z, r, h, and there is no cell."""
    bias = np.zeros(6 * h.size) if "B" not in layer.tensors else layer.tensors["B"][d]
    above, below = bias[: 3 * h.size], bias[3 * h.size :]
    x_z, x_r, x_h = np.split(layer.tensors["W"][d] @ x + above, 3)
    h_z, h_r, h_h = np.split(layer.tensors["R"][d] @ h + below, 3)
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    candidate_weight = layer.tensors["R"][d][2 * h.size :]
    reset = r * h_h if layer.linear_before_reset else candidate_weight @ (r * h) + below[2 * h.size :]
    return (1 - z) * np.tanh(x_h + reset) + z * h, c


def rnn_step(layer: Layer, d: int, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Sequence[np.ndarray]:
    """As ``lstm_step``, without gates and without a cell."""
    bias = np.zeros(2 * h.size) if "B" not in layer.tensors else layer.tensors["B"][d]
    return np.tanh(layer.tensors["W"][d] @ x + layer.tensors["R"][d] @ h + bias.reshape(2, -1).sum(0)), c


STEPS: dict[str, Callable[..., Sequence[np.ndarray]]] = {"LSTM": lstm_step, "GRU": gru_step, "RNN": rnn_step}


def reference(layer: Layer) -> list[np.ndarray]:
    """Y, Y_h and, for LSTM, Y_c, sequence by sequence in float64."""
    steps, batch, _ = layer.tensors["X"].shape
    directions, hidden = layer.tensors["W"].shape[0], layer.hidden
    y = np.zeros((steps, directions, batch, hidden))
    state, cell = np.zeros((2, directions, batch, hidden))
    state += layer.tensors.get("initial_h", 0)
    cell += layer.tensors.get("initial_c", 0)
    lengths = layer.tensors.get("sequence_lens", np.full(batch, steps))
    for d, b in np.ndindex(directions, batch):
        backward = layer.direction == "reverse" or d == 1
        for step in range(lengths[b])[:: -1 if backward else 1]:
            x = layer.tensors["X"][step, b].astype(np.float64)
            state[d, b], cell[d, b] = STEPS[layer.kind](layer, d, x, state[d, b], cell[d, b])
            y[step, d, b] = state[d, b]
    return [y, state, cell] if layer.kind == "LSTM" else [y, state]


def model_of(layers: Sequence[Layer]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """All layers side by side, and what to feed; the results of layer 3 are y3, h3 and c3."""
    nodes, inputs, outputs, constants, feeds = [], [], [], [], {}
    for number, layer in enumerate(layers):
        for name, tensor in layer.tensors.items():
            if layer.constant and name in "WRBP":
                constants.append(onnx.numpy_helper.from_array(tensor, f"{name}{number}"))
                continue
            feeds[f"{name}{number}"] = tensor
            kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
            extents = [f"steps{number}", *tensor.shape[1:]] if name == "X" else tensor.shape
            inputs.append(helper.make_tensor_value_info(f"{name}{number}", kind, extents))
        operands = [f"{name}{number}" if name in layer.tensors else "" for name in INPUTS[layer.kind]]
        results = [f"{name}{number}" for name in ("yhc" if layer.kind == "LSTM" else "yh")]
        reset = {"linear_before_reset": 1} if layer.linear_before_reset else {}
        attributes = {"hidden_size": layer.hidden, "direction": layer.direction, **reset}
        nodes.append(helper.make_node(layer.kind, operands, results, **attributes))
        outputs += [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results]
    graph = helper.make_graph(nodes, "layers", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), feeds


def check_layers(seed: int, target: Target, count: int) -> None:
    generator = np.random.default_rng(seed)
    layers = [random_layer(generator) for _ in range(count)]
    model, feeds = model_of(layers)
    results = relaxc.compile(model, target=target).run(feeds)
    for number, layer in enumerate(layers):
        for name, expected in zip("yhc", reference(layer), strict=False):
            typical = float(np.sqrt(np.mean(expected**2)))
            np.testing.assert_allclose(
                results[f"{name}{number}"],
                expected,
                rtol=TOLERANCE,
                atol=TOLERANCE * typical,
                err_msg=f"{name}{number} of {layer}",
            )


@pytest.mark.workloads_a_seed(10)
def test_random_layers_agree_with_numpy(seed: int) -> None:
    check_layers(seed, "native", 10)


def test_random_layers_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_layers(1000, avx2, 6)
