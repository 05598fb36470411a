"""Runs share no memory with one another, though intermediate tensors and small results lie in a workspace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import relaxc
from relaxc.runtime.signature import Dim

Shape = tuple[Dim, ...]
SIDE = 48
GENERATOR = np.random.default_rng(0)
WEIGHT = (GENERATOR.standard_normal((SIDE, SIDE)) / SIDE**0.5).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto], shape: Shape, outputs: list[str], dtype: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A graph with the input ``x`` of ``shape`` and a weight ``w``; the extents of outputs are inferred."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, dtype, None) for name in outputs],
        [onnx.numpy_helper.from_array(WEIGHT, "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(proto)


def chain(shape: Shape, steps: int = 6, outputs: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Products and softmaxes in turn, with a residual; the last value is ``y``."""
    nodes, last = [], "x"
    for step in range(steps):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"product{step}"]))
        nodes.append(helper.make_node("Softmax", [f"product{step}"], [f"weights{step}"]))
        nodes.append(helper.make_node("Add", [f"weights{step}", last], [f"sum{step}"]))
        last = f"sum{step}"
    nodes.append(helper.make_node("MatMul", [last, "w"], ["y"]))
    return model(nodes, shape, [*outputs, "y"])


def sample(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def expected(proto: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    results: list[np.ndarray] = ReferenceEvaluator(proto).run(None, {"x": x})
    return results


def assert_right(executable: relaxc.Executable, proto: onnx.ModelProto, x: np.ndarray) -> None:
    for actual, wanted in zip(executable.run({"x": x}).values(), expected(proto, x), strict=True):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def assert_apart(results: dict[str, np.ndarray]) -> None:
    """Writing to one result changes no other one."""
    for name in results:
        others = {other: results[other].copy() for other in results if other != name}
        results[name][...] = -1
        assert all(np.array_equal(results[other], others[other]) for other in others)


@pytest.fixture(scope="module")
def fixed() -> tuple[relaxc.Executable, onnx.ModelProto]:
    """Its intermediate values ``weights0`` and ``sum2`` are results as well."""
    proto = chain((SIDE, SIDE), outputs=("weights0", "sum2"))
    return relaxc.compile(proto), proto


def test_intermediate_tensors_share_memory(fixed: tuple[relaxc.Executable, onnx.ModelProto]) -> None:
    places = fixed[0].metadata["workspace"]
    assert len(places) > 6
    assert len({place["offset"] for place in places}) < len(places) // 2


def test_results_that_are_intermediate_values_are_right(
    fixed: tuple[relaxc.Executable, onnx.ModelProto],
) -> None:
    for seed in range(3):
        assert_right(*fixed, sample(SIDE, SIDE, seed=seed))


def test_a_later_run_does_not_touch_earlier_results(
    fixed: tuple[relaxc.Executable, onnx.ModelProto],
) -> None:
    executable, proto = fixed
    x = sample(SIDE, SIDE)
    kept = executable.run({"x": x})
    for array in executable.run({"x": x}).values():
        array[...] = 0
    executable.run({"x": sample(SIDE, SIDE, seed=1)})
    for actual, wanted in zip(kept.values(), expected(proto, x), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_concurrent_runs_of_one_executable_each_have_a_workspace(
    fixed: tuple[relaxc.Executable, onnx.ModelProto],
) -> None:
    executable, _ = fixed
    inputs = [sample(SIDE, SIDE, seed=seed) for seed in range(4)]
    alone = [executable.run({"x": x}) for x in inputs]

    def many_runs(index: int) -> bool:
        runs = (executable.run({"x": inputs[index]}) for _ in range(200))
        return all(np.array_equal(run[name], alone[index][name]) for run in runs for name in run)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(many_runs, range(4)))


def test_two_executables_of_one_artifact_do_not_disturb_each_other(
    fixed: tuple[relaxc.Executable, onnx.ModelProto], tmp_path: Path
) -> None:
    executable, proto = fixed
    executable.save(tmp_path / "model.so")
    other = relaxc.load(tmp_path / "model.so")
    for seed in range(3):
        assert_right(executable, proto, sample(SIDE, SIDE, seed=seed))
        assert_right(other, proto, sample(SIDE, SIDE, seed=seed + 9))


def test_an_instrumented_run_gives_the_same_results_and_allocates_nothing(
    fixed: tuple[relaxc.Executable, onnx.ModelProto],
) -> None:
    executable, _ = fixed
    names: list[str] = []

    def note(function: Any, name: str, before: bool, result: Any, *arguments: Any) -> None:
        names.append(name)

    x = {"x": sample(SIDE, SIDE)}
    instrumented = executable.run_instrumented(x, note)
    for name, result in executable.run(x).items():
        np.testing.assert_array_equal(result, instrumented[name])
    assert not [name for name in names if "alloc" in name]


def test_a_large_result_is_not_copied() -> None:
    executable = relaxc.compile(chain((4096, SIDE)))
    assert executable.metadata["results"] == [None]
    x = sample(4096, SIDE)
    assert executable.run({"x": x})["y"].base is not None


def test_a_model_with_symbolic_extents_has_no_workspace() -> None:
    proto = chain(("n", SIDE), steps=2)
    executable = relaxc.compile(proto)
    assert executable.metadata["workspace"] == []
    for rows in (3, 0, 7):
        assert_right(executable, proto, sample(rows, SIDE))


def test_tensors_without_elements() -> None:
    proto = chain((0, SIDE), steps=2, outputs=("sum0",))
    assert_right(relaxc.compile(proto), proto, sample(0, SIDE))


def test_an_input_that_is_a_result_and_one_value_under_two_names() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Identity", ["y"], ["again"]),
        helper.make_node("Reshape", ["y", "flat"], ["reshaped"]),
    ]
    proto = model(nodes, (SIDE, SIDE), ["y", "same", "again", "reshaped"])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    executable = relaxc.compile(proto)
    x = sample(SIDE, SIDE)
    assert_right(executable, proto, x)
    results = executable.run({"x": x})
    assert_apart(results)
    assert not np.any(x == -1)


def test_large_results_that_lie_in_one_another_come_apart() -> None:
    """The parts of ``y`` are written in place, and ``part`` is a view of it."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["y"], axis=0),
        helper.make_node("Slice", ["y", "begin", "end"], ["part"]),
        *(helper.make_node("Reshape", [name, "flat"], [f"flat_{name}"]) for name in ("part", "y", "a")),
    ]
    proto = model(nodes, (2048, SIDE), ["flat_part", "flat_y", "flat_a"])
    bounds = {"begin": [1024], "end": [3072], "flat": [-1]}
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values, np.int64), name) for name, values in bounds.items()
    )
    executable = relaxc.compile(onnx.shape_inference.infer_shapes(proto))
    assert not [kernel for kernel in executable.metadata["kernels"] if "concat" in kernel["name"]]
    x = sample(2048, SIDE)
    assert_right(executable, proto, x)
    assert_apart(executable.run({"x": x}))


def test_branches_chosen_at_run_time() -> None:
    def branch(name: str, steps: int) -> onnx.GraphProto:
        nodes, last = [], "h"
        for step in range(steps):
            nodes.append(helper.make_node("MatMul", [last, "w"], [f"{name}{step}"]))
            nodes.append(helper.make_node("Softmax", [f"{name}{step}"], [f"{name}_soft{step}"]))
            last = f"{name}_soft{step}"
        output = helper.make_tensor_value_info(last, TensorProto.FLOAT, (SIDE, SIDE))
        return helper.make_graph(nodes, name, [], [output])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["z"], then_branch=branch("then", 3), else_branch=branch("else", 2)
        ),
        helper.make_node("Add", ["z", "h"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["y"]),
    ]
    proto = model(nodes, (SIDE, SIDE), ["y", "z"])
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"))
    executable = relaxc.compile(proto)
    for x in (np.abs(sample(SIDE, SIDE)), -np.abs(sample(SIDE, SIDE)), np.abs(sample(SIDE, SIDE, seed=1))):
        assert_right(executable, proto, x)


def test_a_constant_that_a_branch_returns_stays_what_it_is() -> None:
    def branch(name: str, value: float) -> onnx.GraphProto:
        array = onnx.numpy_helper.from_array(np.full(3, value, np.float32))
        node = helper.make_node("Constant", [], [name], value=array)
        return helper.make_graph([node], name, [], [onnx.ValueInfoProto(name=name)])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Cast", ["total"], ["positive"], to=TensorProto.BOOL),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("t", 1), else_branch=branch("e", 2)),
    ]
    executable = relaxc.compile(model(nodes, (2, 2), ["y"]))
    for _ in range(2):
        for value, wanted in ((1, 1), (0, 2)):
            y = executable.run({"x": np.full((2, 2), value, np.float32)})["y"]
            assert y.tolist() == [wanted] * 3
            y[...] = 9


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float16", "bfloat16", "float64"])
def test_small_results_of_other_types(dtype: str) -> None:
    """The product keeps the cast from being the whole model."""
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=onnx_type),
    ]
    executable = relaxc.compile(model(nodes, (3, SIDE), ["y"], onnx_type))
    x = 10 * sample(3, SIDE)
    y = executable.run({"x": x})["y"]
    assert executable.metadata["results"] == [len(executable.metadata["workspace"]) - 1]
    wanted = (x @ WEIGHT).astype(y.dtype)
    assert y.dtype.name == dtype
    np.testing.assert_allclose(y.astype(np.float64), wanted.astype(np.float64), rtol=1e-2, atol=1)
