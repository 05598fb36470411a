"""Values that decide extents only are known at run time: one executable for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import relaxc

Graph = Callable[..., onnx.ModelProto]
Check = Callable[..., Any]
RNG = np.random.default_rng(5)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


X = RNG.standard_normal((3, 4, 5)).astype(np.float32)
MAP = RNG.standard_normal((1, 2, 6, 7)).astype(np.float32)
F32 = np.float32

CASES: dict[str, tuple[str, list[Any], list[list[Any]], dict[str, Any]]] = {
    "running sum": ("CumSum", [X], [[np.array(0)], [np.array(-1)]], {}),
    "spectrum": ("DFT", [X[..., None]], [[i64(8)[0], i64(1)[0]], [i64(5)[0], i64(-2)[0]]], {}),
    "slice": (
        "Slice",
        [X],
        [[i64(1, -9), i64(3, 9), i64(0, -1), i64(1, 2)], [i64(4, -1), i64(-9, 0), i64(2, 1), i64(-2, -1)]],
        {},
    ),
    "border": ("Pad", [X], [[i64(1, 2), F32(3), i64(1)], [i64(0, 1), F32(4), i64(-1)]], {}),
    "reduction": ("ReduceL2", [X], [[i64(0, 2)], [i64(1, -1)]], {}),
    "image": (
        "Col2Im",
        [RNG.standard_normal((1, 5, 5)).astype(np.float32)],
        [[i64(5, 5), i64(1, 5)]],
        {},
    ),
    "anti-aliased": (
        "Resize",
        [MAP, None],
        [[np.array([1, 1, 0.6, 0.5], F32)], [np.array([1, 1, 0.3, 1.5], F32)]],
        {"mode": "linear", "antialias": 1},
    ),
    "aspect ratio": (
        "Resize",
        [MAP, None, None],
        [[i64(3, 9)], [i64(14, 14)]],
        {"mode": "nearest", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"},
    ),
    "region": (
        "Resize",
        [MAP],
        [
            [np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2], F32), None, i64(1, 2, 4, 5)],
            [np.array([0, 0, 0, 0.5, 1, 1, 1, 0.6], F32), None, i64(1, 2, 3, 8)],
        ],
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_extents_follow_values(name: str, graph: Graph, check: Check) -> None:
    operator, fixed, feeds, attributes = CASES[name]
    values = [*fixed, *feeds[0]]
    names = [f"i{place}" if value is not None else "" for place, value in enumerate(values)]
    inputs = {n: (v.dtype, v.shape) for n, v in zip(names, values, strict=True) if v is not None}
    model = graph([helper.make_node(operator, names, ["y"], **attributes)], inputs, ["y"], opset=20)
    for each in feeds:
        feed = zip(names, [*fixed, *each], strict=True)
        given = {n: np.asarray(v) for n, v in feed if n}
        check(model, given, rtol=1e-4, atol=1e-5)


def test_sizes_of_a_split(graph: Graph) -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x", "sizes"], ["s"], axis=1),
        helper.make_node("SequenceAt", ["s", "one"], ["y"]),
    ]
    inputs = {"x": (np.float32, [3, 6]), "sizes": (np.int64, [3])}
    executable = relaxc.compile(graph(nodes, inputs, ["y"], constants={"one": np.array(1)}))
    x = RNG.standard_normal((3, 6)).astype(np.float32)
    for sizes in ((1, 2, 3), (4, 0, 2)):
        result = executable.run({"x": x, "sizes": i64(*sizes)})["y"]
        np.testing.assert_array_equal(result, np.split(x, np.cumsum(sizes)[:-1], 1)[1])


def test_slopes_of_channels_before_opset_7() -> None:
    """Then they went with the second axis, whatever the rank."""
    x, slopes = RNG.standard_normal((2, 3, 4)).astype(np.float32), np.array([0.1, 0.5, 2], np.float32)
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("PRelu", ["x", "slopes"], ["y"])],
        "graph",
        [info("x", TensorProto.FLOAT, x.shape), info("slopes", TensorProto.FLOAT, [3])],
        [info("y", TensorProto.FLOAT, x.shape)],
        [onnx.numpy_helper.from_array(slopes, "slopes")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 6)], ir_version=3)
    expected = np.where(x < 0, x * slopes[:, None], x)
    np.testing.assert_array_equal(relaxc.compile(model).run({"x": x})["y"], expected)


def test_gradient_of_a_small_network() -> None:
    """d sum(tanh(x w)) / dw = x' (1 - tanh(x w)^2), and by x likewise."""
    info = helper.make_tensor_value_info
    domain = "ai.onnx.preview.training"
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["y"]),
        helper.make_node("Gradient", ["x", "w"], ["dx", "dw"], domain=domain, xs=["x", "w"], y="y"),
    ]
    shapes = {"x": [2, 3], "w": [3, 4]}
    inputs = [info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    body = helper.make_graph(nodes, "graph", inputs, [onnx.ValueInfoProto(name=n) for n in ("dx", "dw")])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    feed = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    results = relaxc.compile(helper.make_model(body, opset_imports=imports, ir_version=9)).run(feed)
    slope = 1 - np.tanh(feed["x"] @ feed["w"]) ** 2
    np.testing.assert_allclose(results["dw"], feed["x"].T @ slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(results["dx"], slope @ feed["w"].T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backward", [0, 1])
def test_number_of_steps_of_a_scan(backward: int, graph: Graph) -> None:
    """Running sums along the second axis, put along the last one."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "x"], ["more"]), helper.make_node("Identity", ["more"], ["out"])],
        "body",
        [info("sum", TensorProto.FLOAT, [2]), info("x", TensorProto.FLOAT, [2])],
        [info("more", TensorProto.FLOAT, [2]), info("out", TensorProto.FLOAT, [2])],
    )
    axes = {"scan_input_axes": [1], "scan_output_axes": [-1], "scan_input_directions": [backward]}
    node = helper.make_node(
        "Scan", ["start", "xs"], ["total", "sums"], body=body, num_scan_inputs=1, **axes,
        scan_output_directions=[backward],
    )  # fmt: skip
    inputs = {"start": (np.float32, [2]), "xs": (np.float32, [2, "steps"])}
    executable = relaxc.compile(graph([node], inputs, ["total", "sums"]))
    for steps in (1, 5, 100):
        xs = RNG.standard_normal((2, steps)).astype(np.float32)
        results = executable.run({"start": np.ones(2, np.float32), "xs": xs})
        direction = -1 if backward else 1
        expected = 1 + np.cumsum(xs[:, ::direction], axis=1)[:, ::direction]
        np.testing.assert_allclose(results["sums"], expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(results["total"], 1 + xs.sum(1), rtol=1e-4, atol=1e-4)
