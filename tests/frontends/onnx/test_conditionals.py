"""If: inlined where the condition is known, a branch at run time otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from relaxc.frontends.onnx import import_onnx
from relaxc.runtime.errors import ShapeError, StaticInputRequired

Graph = Callable[..., onnx.ModelProto]
Check = Callable[..., Any]
NODE = helper.make_node
X = np.array([[-1.0, 2.0, 3.0]], np.float32)


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "branch", [], [onnx.ValueInfoProto(name=nodes[-1].output[0])])


def conditional(condition: str, then_node: onnx.NodeProto, else_node: onnx.NodeProto) -> onnx.NodeProto:
    return NODE("If", [condition], ["r"], then_branch=branch(then_node), else_branch=branch(else_node))


def const(name: str, *values: int) -> onnx.NodeProto:
    return NODE("Constant", [], [name], value=onnx.numpy_helper.from_array(np.array(values)))


def test_data_decides_at_run_time(graph: Graph, check: Check) -> None:
    nodes = [
        conditional("c", NODE("Relu", ["x"], ["t"]), NODE("Neg", ["x"], ["e"])),
        NODE("Add", ["r", "x"], ["y"]),
    ]
    model = graph(nodes, {"x": (np.float32, ["n", 3]), "c": (np.bool_, [])}, ["y"])
    check(model, *({"x": X, "c": np.array(value)} for value in (True, False)))


def test_branches_may_differ_in_extents(graph: Graph, check: Check) -> None:
    node = conditional("c", NODE("Concat", ["x", "x"], ["t"], axis=0), NODE("Neg", ["x"], ["e"]))
    model = graph(
        [node, NODE("Neg", ["r"], ["y"])], {"x": (np.float32, ["n", 3]), "c": (np.bool_, [])}, ["y"]
    )
    check(model, *({"x": X, "c": np.array(value)} for value in (True, False)))


def test_constant_condition_leaves_one_branch(graph: Graph, check: Check) -> None:
    inputs = {"x": (np.float32, ["n", 3]), "c": (np.bool_, [])}
    model = graph(
        [conditional("c", NODE("Relu", ["x"], ["t"]), NODE("ReduceSum", ["x"], ["e"]))], inputs, ["r"]
    )
    imported = check(model, {"x": X, "c": np.array(True)}, static_inputs={"c": np.array(True)})
    assert imported.outputs[0].shape == ("n", 3)


def test_extents_decide_at_run_time(graph: Graph, check: Check) -> None:
    nodes = [
        NODE("Shape", ["x"], ["s"], end=1),
        const("two", 2),
        NODE("Greater", ["s", "two"], ["c"]),
        conditional("c", NODE("Relu", ["x"], ["t"]), NODE("Neg", ["x"], ["e"])),
    ]
    model = graph(nodes, {"x": (np.float32, ["n"])}, ["r"])
    check(model, *({"x": np.linspace(-1, 1, n).astype(np.float32)} for n in (2, 3)), reference="onnxruntime")


def squeeze_if_one(graph: Graph) -> onnx.ModelProto:
    """What exporters write for ``x.squeeze(1)`` with a dynamic axis, before something of rank 2."""
    nodes = [
        NODE("Shape", ["x"], ["s"], start=1, end=2),
        const("one", 1),
        NODE("Equal", ["s", "one"], ["c"]),
        conditional("c", NODE("Squeeze", ["x", "one"], ["t"]), NODE("Identity", ["x"], ["e"])),
        NODE("Gemm", ["r", "w"], ["y"]),
    ]
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    return graph(nodes, {"x": (np.float32, ["n", "m", 3])}, ["y"], constants={"w": weight})


def test_branch_whose_rank_does_not_fit_is_not_taken(graph: Graph, check: Check) -> None:
    model = squeeze_if_one(graph)
    imported = check(model, {"x": X[None]}, {"x": np.concatenate([X[None]] * 2)}, reference="onnxruntime")
    assert imported.outputs[0].shape == ("n", 2)


def test_extents_that_need_the_other_branch_end_the_run(graph: Graph, check: Check) -> None:
    with pytest.raises(ShapeError):
        check(squeeze_if_one(graph), {"x": np.ones((1, 2, 3), np.float32)})


def test_data_cannot_decide_a_rank(graph: Graph) -> None:
    inputs = {"x": (np.float32, ["n", 3]), "c": (np.bool_, [])}
    model = graph(
        [conditional("c", NODE("Relu", ["x"], ["t"]), NODE("Flatten", ["x"], ["e"], axis=1))], inputs, ["r"]
    )
    import_onnx(model)
    ranks = conditional("c", NODE("Relu", ["x"], ["t"]), NODE("ReduceSum", ["x"], ["e"], keepdims=0))
    with pytest.raises(StaticInputRequired) as caught:
        import_onnx(graph([ranks], inputs, ["r"]))
    assert caught.value.names == ("c",)
