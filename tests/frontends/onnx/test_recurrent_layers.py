"""LSTM, GRU and RNN in every direction, with every optional input, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

STEPS, BATCH, INPUT, HIDDEN = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RNG = np.random.default_rng(11)


def f32(*shape: int) -> np.ndarray:
    return (0.5 * RNG.standard_normal(shape)).astype(np.float32)


def layer(graph: Callable[..., onnx.ModelProto], kind: str, optional: set[str], **attributes: Any) -> Any:
    """(model, weights as constants; feeds)"""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[kind]
    weights = {"w": f32(directions, gates * HIDDEN, INPUT), "r": f32(directions, gates * HIDDEN, HIDDEN)}
    feeds = {"x": f32(STEPS, BATCH, INPUT)}
    names = ["x", "w", "r", "", "", "", "", ""]
    if "bias" in optional:
        names[3], weights["b"] = "b", f32(directions, 2 * gates * HIDDEN)
    if "lengths" in optional:
        names[4], feeds["lengths"] = "lengths", np.array([5, 2, 3], np.int32)
    if "state" in optional:
        names[5], feeds["h"] = "h", f32(directions, BATCH, HIDDEN)
    if "cell" in optional:
        names[6], feeds["c"] = "c", f32(directions, BATCH, HIDDEN)
    if "peepholes" in optional:
        names[7], weights["p"] = "p", f32(directions, 3 * HIDDEN)
    dims = {"x": ["steps", "batch", INPUT], "lengths": ["batch"]}
    state = [directions, "batch", HIDDEN]
    inputs = {name: (array.dtype, dims.get(name, state)) for name, array in feeds.items()}
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    while names[-1] == "":
        names.pop()
    node = helper.make_node(kind, names, outputs, hidden_size=HIDDEN, **attributes)
    return graph([node], inputs, outputs, constants=weights), feeds


CASES: list[tuple[str, set[str], dict[str, Any]]] = [
    ("LSTM", set(), {}),
    ("LSTM", {"bias", "state", "cell"}, {"direction": "reverse"}),
    ("LSTM", {"bias", "lengths", "state", "cell", "peepholes"}, {"direction": "bidirectional"}),
    ("LSTM", {"bias"}, {"input_forget": 1, "clip": 0.3}),
    ("LSTM", {"bias"}, {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    ("GRU", {"bias", "state"}, {}),
    ("GRU", {"bias", "lengths"}, {"linear_before_reset": 1, "direction": "bidirectional"}),
    ("GRU", set(), {"direction": "reverse", "linear_before_reset": 1}),
    ("RNN", {"bias", "state", "lengths"}, {"direction": "bidirectional"}),
    ("RNN", set(), {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
]


@pytest.mark.parametrize(("kind", "optional", "attributes"), CASES)
def test_layer(
    kind: str,
    optional: set[str],
    attributes: dict[str, Any],
    graph: Callable[..., onnx.ModelProto],
    check: Callable[..., Any],
) -> None:
    model, feeds = layer(graph, kind, optional, **attributes)
    shorter = {name: value[:3] if name == "x" else value for name, value in feeds.items()}
    cases = [feeds] if "lengths" in optional else [feeds, shorter]
    imported = check(model, *cases, reference="onnxruntime")
    assert imported.outputs[0].shape[0] == "steps"


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_batch_first(kind: str, graph: Callable[..., onnx.ModelProto], check: Callable[..., Any]) -> None:
    """ONNX Runtime refuses layout 1; onnx's own implementation knows it."""
    model, feeds = layer(graph, kind, {"bias"}, layout=1)
    check(model, feeds)


@pytest.mark.parametrize("hidden", [16, 130, 200])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_of_several_vectors(
    kind: str, hidden: int, graph: Callable[..., onnx.ModelProto], check: Callable[..., Any]
) -> None:
    """States that fill a vector, several panels with idle columns, and panels of several vectors."""
    gates = GATES[kind]
    weights = {"w": f32(1, gates * hidden, INPUT), "r": f32(1, gates * hidden, hidden) / 8}
    x = f32(STEPS, 2, INPUT)
    node = helper.make_node(kind, ["x", "w", "r"], ["y"], hidden_size=hidden)
    check(
        graph([node], {"x": (x.dtype, x.shape)}, ["y"], constants=weights), {"x": x}, reference="onnxruntime"
    )
