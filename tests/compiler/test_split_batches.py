"""A batch in groups of images gives what ONNX Runtime gives of the whole, with the kernels of one group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import relaxc
from relaxc.compiler import driver
from relaxc.compiler.options import CompileOptions
from relaxc.passes.batch_profile import Run
from relaxc.targets.cpu.machine import Machine

BATCH = 4
Grouping = Callable[[Run, Machine], Sequence[int]]


def network() -> onnx.ModelProto:
    """A residual and a concatenation, then centring by the mean of all images, then weighting of channels."""
    generator = np.random.default_rng(0)
    shapes = {"w": (32, 3, 3, 3), "v": (32, 32, 3, 3), "u": (32, 1, 3, 3), "p": (16, 64, 1, 1), "d": (16, 7)}
    constants = {name: generator.standard_normal(shape) * 0.2 for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "v"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["e"]),
        helper.make_node("MaxPool", ["e"], ["f"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["f", "u"], ["g"], pads=[1, 1, 1, 1], group=32),
        helper.make_node("Concat", ["g", "e"], ["h"], axis=1),
        helper.make_node("Conv", ["h", "p"], ["i"]),
        helper.make_node("ReduceMean", ["i"], ["j"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["i", "j"], ["k"]),
        helper.make_node("GlobalAveragePool", ["k"], ["l"]),
        helper.make_node("Sigmoid", ["l"], ["m"]),
        helper.make_node("Mul", ["k", "m"], ["o"]),
        helper.make_node("ReduceMax", ["o"], ["q"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["q", "d"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "network",
        [value("x", TensorProto.FLOAT, ["batch", 3, 24, 20])],
        [value("y", TensorProto.FLOAT, ["batch", 7]), value("i", TensorProto.FLOAT, ["batch", 16, 12, 10])],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


MODEL = network()


def single_images(run: Run, machine: Machine) -> Sequence[int]:
    return [1] * len(run.steps)


def pairs_then_single_images(run: Run, machine: Machine) -> Sequence[int]:
    return (
        [2] * 3 + [BATCH] * 2 + [1] * (len(run.steps) - 5) if len(run.steps) > 5 else [BATCH] * len(run.steps)
    )


def compiled(batch: int, options: CompileOptions | None = None) -> relaxc.Executable:
    return relaxc.compile(MODEL, shapes={"x": (batch, 3, 24, 20)}, options=options)


@pytest.mark.parametrize("grouping", [single_images, pairs_then_single_images])
def test_results_are_those_of_onnxruntime(grouping: Grouping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "group_images", grouping)
    x = np.random.default_rng(1).standard_normal((BATCH, 3, 24, 20), dtype=np.float32)
    session = onnxruntime.InferenceSession(MODEL.SerializeToString(), providers=["CPUExecutionProvider"])
    results = compiled(BATCH).run({"x": x})
    for name, expected in zip(("y", "i"), session.run(["y", "i"], {"x": x}), strict=True):
        np.testing.assert_allclose(results[name], expected, rtol=1e-4, atol=1e-5)


def test_groups_share_kernels_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, weights = {}, {}
    monkeypatch.setattr(driver, "group_images", single_images)
    for batch in (1, BATCH):
        metadata = compiled(batch).metadata
        kernels[batch] = Counter(kernel["template"] for kernel in metadata["kernels"])
        weights[batch] = len(metadata["weights"])
    for template in ("conv2d", "depthwise_conv2d"):
        assert kernels[BATCH][template] == kernels[1][template] > 0
    assert weights[BATCH] == weights[1]


def test_the_pass_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "group_images", single_images)
    whole = compiled(BATCH, CompileOptions(disabled_passes=frozenset({"split-batch"}))).metadata["kernels"]
    split = compiled(BATCH).metadata["kernels"]
    assert max(kernel["flops"] for kernel in split) < max(kernel["flops"] for kernel in whole)
