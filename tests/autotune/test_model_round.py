"""Rounds inside a small model: what is slow, wrong or deadly is found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relaxc
from relaxc.autotune.build_kernel import build_kernel
from relaxc.autotune.measurement import BuiltKernel, RunOptions, Status
from relaxc.autotune.median_interval import lower_rank
from relaxc.autotune.model_round import Contestants, ModelAtHand, RoundError, run_round
from relaxc.autotune.model_runs import ROUNDING, run_in_turns, time_whole_runs
from relaxc.autotune.tasks import Task, extract_tasks
from relaxc.compiler.driver import PRECISIONS, fuse
from relaxc.compiler.options import CompileOptions
from relaxc.runtime.processor import allowed_cpus
from relaxc.targets.registry import resolve

OPTIONS = RunOptions(threads=1)


def of_48_by_64(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [48, 64])


def two_products(seed: int) -> onnx.ModelProto:
    """A product with a ReLU behind it, and one of the same extents without."""
    generator = np.random.default_rng(seed)
    weights = [
        numpy_helper.from_array(generator.standard_normal((64, 64)).astype(np.float32), name) for name in "vw"
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    ends = [of_48_by_64(name) for name in "xy"]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelAtHand:
    path = tmp_path_factory.mktemp("model") / "products.so"
    relaxc.compile(two_products(0)).save(path)
    return ModelAtHand(path, {"x": np.ones((48, 64), np.float32)})


@pytest.fixture(scope="module")
def tasks() -> tuple[Task, ...]:
    fused = fuse(two_products(0), "native", None, None, CompileOptions())
    return extract_tasks(fused.module, fused.target).tasks


def built(task: Task, *points: int) -> tuple[BuiltKernel, ...]:
    """The default, and points of the task's space."""
    schedules = (None, *(task.space.knobs(point) for point in points))
    return tuple(build_kernel(task.candidate(knobs, resolve("native"))) for knobs in schedules)


def test_all_schedules_of_all_kernels_are_timed_at_once(model: ModelAtHand, tasks: tuple[Task, ...]) -> None:
    found = run_round(model, [Contestants(task.names, built(task, 0, 1)) for task in tasks], 0.05, OPTIONS)
    assert [len(each) for each in found] == [3, 3]
    for each in found:
        assert all(measurement.ok for measurement in each)
        assert len({len(measurement.seconds) for measurement in each}) == 1
        assert all(0 < measurement.median < 1 for measurement in each)


def test_wrong_results_are_not_timed(model: ModelAtHand, tasks: tuple[Task, ...]) -> None:
    first, second = tasks
    kernels = (*built(first, 0), *built(second)[:1])
    ((default, right, wrong),) = run_round(model, [Contestants(first.names, kernels)], 0.05, OPTIONS)
    assert (default.status, right.status, wrong.status) == (Status.OK, Status.OK, Status.WRONG_RESULT)
    assert not wrong.seconds


def test_kernels_of_a_branch_are_timed_like_others(tmp_path: Path) -> None:
    product = two_products(0).graph
    inside = helper.make_graph(product.node, "inside", [], product.output)
    plain = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "plain", [], [of_48_by_64("z")])
    chosen = helper.make_node("If", ["c"], ["r"], then_branch=inside, else_branch=plain)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph(
        [chosen], "branch", [*product.input, condition], [of_48_by_64("r")], product.initializer
    )
    branch = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    relaxc.compile(branch).save(tmp_path / "branch.so")
    model = ModelAtHand(tmp_path / "branch.so", {"x": np.ones((48, 64), np.float32), "c": np.array(True)})
    fused = fuse(branch, "native", None, None, CompileOptions())
    found = [
        (task, run_round(model, [Contestants(task.names, built(task, 0))], 0.05, OPTIONS))
        for task in extract_tasks(fused.module, fused.target).tasks
    ]
    assert any("matmul" in task.name for task, _ in found)
    assert all(each.ok for task, (measured,) in found for each in measured if "matmul" in task.name)


def test_kernels_that_are_not_those_of_the_model_are_not_timed(
    model: ModelAtHand, tasks: tuple[Task, ...]
) -> None:
    first, second = tasks
    (found,) = run_round(model, [Contestants(second.names, built(first, 0))], 0.05, OPTIONS)
    assert [each.status for each in found] == [Status.WRONG_RESULT] * 2


def test_a_kernel_that_ends_the_process_is_found_and_the_others_are_timed(
    model: ModelAtHand, tasks: tuple[Task, ...]
) -> None:
    first, second = tasks
    deadly = replace(built(first)[0], library=b"no library")
    contestants = [
        Contestants(first.names, (*built(first, 0), deadly)),
        Contestants(second.names, built(second, 0)),
    ]
    (default, right, lost), others = run_round(model, contestants, 0.05, OPTIONS)
    assert (default.status, right.status, lost.status) == (Status.OK, Status.OK, Status.RUN_ERROR)
    assert all(measurement.ok for measurement in others)


def test_where_the_model_cannot_be_run_nobody_is_blamed(tasks: tuple[Task, ...], tmp_path: Path) -> None:
    nothing = ModelAtHand(tmp_path / "nothing.so", {})
    with pytest.raises(RoundError, match="no measuring inside the model"):
        run_round(nothing, [Contestants(tasks[0].names, built(tasks[0], 0))], 0.05, OPTIONS)


def test_whole_runs_with_other_results_are_wrong(model: ModelAtHand, tmp_path: Path) -> None:
    other = tmp_path / "other.so"
    relaxc.compile(two_products(1)).save(other)
    same, wrong = time_whole_runs([model.artifact, other], model.inputs, 0.05, OPTIONS)
    assert same.ok
    assert wrong.status is Status.WRONG_RESULT


def test_few_runs_of_slow_models_are_enough_to_prove_something(
    model: ModelAtHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relaxc.autotune.model_runs._SLOW_RUN_SECONDS", 0.0)
    found = run_in_turns([model.artifact] * 2, model.inputs, 0.0, OPTIONS, allowed_cpus())
    assert all(lower_rank(5 * len(each.seconds)) is not None for each in found)  # five processes decide


def test_every_precision_that_rounds_between_kernels_has_a_tolerance() -> None:
    assert ROUNDING.keys() == PRECISIONS.keys() - {"fp32"}


def test_an_artifact_that_cannot_be_run_does_not_hide_the_other(model: ModelAtHand, tmp_path: Path) -> None:
    right, lost = time_whole_runs([model.artifact, tmp_path / "none.so"], model.inputs, 0.05, OPTIONS)
    assert right.ok
    assert lost.status is Status.RUN_ERROR
