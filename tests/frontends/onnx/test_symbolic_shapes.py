"""Shape arithmetic stays symbolic: one import serves every shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tvm import tirx

from relaxc.frontends.onnx.extents import Extents
from relaxc.runtime.errors import ShapeError

Graph = Callable[..., onnx.ModelProto]
NODE = helper.make_node
RNG = np.random.default_rng(3)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def const(name: str, *values: Any, dtype: Any = np.int64) -> onnx.NodeProto:
    return NODE("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(values, dtype)))


def test_equal_extents_have_one_normal_form() -> None:
    extents = Extents()
    n, b = extents.variable("n"), extents.variable("b")
    floordiv = tirx.floordiv
    assert extents.equal(b * n + n * b, 2 * n * b)
    assert extents.equal(floordiv(n - 1, 2) + 1, floordiv(n + 1, 2))
    assert extents.equal(floordiv(floordiv(n + 1, 2) + 1, 2), floordiv(n + 3, 4))
    assert extents.equal(floordiv(b * n * 6, b * 6), n)
    assert extents.decide_equal(n, n + 1) is False
    assert extents.decide_equal(n, b) is None
    assert extents.equal(extents.minimum(n, n + 1), n)
    assert extents.equal(extents.maximum(n, 0), n)
    assert extents.equal(extents.minimum(n, floordiv(n, 2)), floordiv(n, 2))


def test_flattening_by_shape_gather_concat(graph: Graph, check: Callable[..., Any]) -> None:
    nodes = [
        NODE("Shape", ["x"], ["s"]),
        const("zero", 0),
        NODE("Gather", ["s", "zero"], ["batch"]),
        const("minus", -1),
        NODE("Concat", ["batch", "minus"], ["target"], axis=0),
        NODE("Reshape", ["x", "target"], ["y"]),
    ]
    model = graph(nodes, {"x": (np.float32, ["n", "c", "h"])}, ["y"])
    imported = check(model, *({"x": f32(*shape)} for shape in [(2, 3, 4), (1, 5, 2), (3, 1, 2)]))
    assert imported.outputs[0].shape == ("n", "c * h")


def test_a_single_extent_is_a_scalar(graph: Graph, check: Callable[..., Any]) -> None:
    index = NODE("Constant", [], ["one"], value=onnx.numpy_helper.from_array(np.array(1)))
    nodes = [
        NODE("Shape", ["x"], ["s"]),
        index,
        NODE("Gather", ["s", "one"], ["width"]),
        const("axis", 0),
        NODE("Unsqueeze", ["width", "axis"], ["target"]),
        NODE("ConstantOfShape", ["target"], ["zeros"]),
        NODE("Add", ["x", "zeros"], ["y"]),
    ]
    check(graph(nodes, {"x": (np.float32, ["n", "m"])}, ["y"]), {"x": f32(2, 3)}, {"x": f32(4, 1)})


def test_resize_to_the_size_of_another_map(graph: Graph, check: Callable[..., Any]) -> None:
    nodes = [
        NODE("MaxPool", ["x"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        NODE("Shape", ["x"], ["s"]),
        NODE("Resize", ["p", "", "", "s"], ["r"], mode="nearest"),
        NODE("Concat", ["x", "r"], ["y"], axis=1),
    ]
    model = graph(nodes, {"x": (np.float32, ["n", 3, "h", "w"])}, ["y"])
    feeds = [{"x": f32(*shape)} for shape in [(1, 3, 8, 6), (2, 3, 4, 10)]]
    imported = check(model, *feeds, reference="onnxruntime")
    assert imported.outputs[0].shape == ("n", 6, "h", "w")


def test_half_of_an_axis_by_float_arithmetic(graph: Graph, check: Callable[..., Any]) -> None:
    nodes = [
        NODE("Shape", ["x"], ["s"]),
        NODE("Cast", ["s"], ["f"], to=onnx.TensorProto.FLOAT),
        const("half", 0.5, dtype=np.float32),
        NODE("Mul", ["f", "half"], ["g"]),
        NODE("Floor", ["g"], ["h"]),
        NODE("Cast", ["h"], ["end"], to=onnx.TensorProto.INT64),
        const("start", 0),
        NODE("Slice", ["x", "start", "end"], ["y"]),
    ]
    imported = check(graph(nodes, {"x": (np.float32, ["n"])}, ["y"]), {"x": f32(7)}, {"x": f32(4)})
    assert imported.outputs[0].shape == ("n // 2",)


def test_a_shape_used_as_data_is_computed(graph: Graph, check: Callable[..., Any]) -> None:
    nodes = [
        NODE("Shape", ["x"], ["s"]),
        NODE("Cast", ["s"], ["f"], to=onnx.TensorProto.FLOAT),
        NODE("ReduceSum", ["x"], ["t"], keepdims=0),
        NODE("Mul", ["t", "f"], ["y"]),
    ]
    check(graph(nodes, {"x": (np.float32, ["n", "m"])}, ["y"]), {"x": f32(3, 4)}, {"x": f32(1, 2)})


def test_unequal_looking_extents_are_taken_as_equal_and_checked(
    graph: Graph, check: Callable[..., Any]
) -> None:
    model = graph(
        [NODE("Add", ["a", "b"], ["y"])], {"a": (np.float32, ["n"]), "b": (np.float32, ["m"])}, ["y"]
    )
    check(model, {"a": f32(3), "b": f32(3)})
    with pytest.raises(ShapeError):
        check(model, {"a": f32(3), "b": f32(4)})


def test_bound_dimension_reaches_every_input_that_shares_it(graph: Graph, check: Callable[..., Any]) -> None:
    inputs = {"a": (np.float32, ["n"]), "b": (np.float32, ["n", "m"])}
    model = graph([NODE("Add", ["a", "b"], ["y"])], inputs, ["y"])
    imported = check(model, {"a": f32(4), "b": f32(4, 4)}, shapes={"a": (4,)})
    assert [spec.shape for spec in imported.inputs] == [(4,), (4, "m")]


def test_nameless_dimensions_get_names(graph: Graph, check: Callable[..., Any]) -> None:
    model = graph([NODE("Neg", ["x"], ["y"])], {"x": (np.float32, [None, "?", 0])}, ["y"])
    imported = check(model, {"x": f32(2, 3, 4)})
    assert imported.inputs[0].shape == ("x_d0", "x_d1", "x_d2")


@pytest.mark.parametrize("bounds", [(1, 4), (-3, -1), (2, 100), (3, 1)])
def test_run_time_slice_bounds(graph: Graph, check: Callable[..., Any], bounds: tuple[int, int]) -> None:
    inputs = {"x": (np.float32, ["n"]), "start": (np.int64, [1]), "end": (np.int64, [1])}
    model = graph([NODE("Slice", ["x", "start", "end"], ["y"])], inputs, ["y"])
    check(model, {"x": f32(6), "start": np.array(bounds[:1]), "end": np.array(bounds[1:])})
