"""A compilation makes one kernel of a chain, or several, as the records say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relaxc
from relaxc.autotune.chain_algorithm_tasks import chain_algorithm_tasks
from relaxc.autotune.measurement import Measurement, RunOptions, Status
from relaxc.autotune.records import Entry, Purpose, Record, TargetKey, append_record
from relaxc.autotune.tasks import Task
from relaxc.autotune.tuned_kernels import TunedKernels
from relaxc.compiler.driver import compile, fuse
from relaxc.compiler.model_variants import ModelVariants
from relaxc.compiler.options import CompileOptions
from relaxc.runtime.processor import default_threads
from relaxc.targets.cpu.chain_algorithms import CHOICE, FUSED
from relaxc.targets.registry import resolve

PIXELS = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A depthwise convolution between two pointwise ones."""
    generator = np.random.default_rng(0)
    shapes = {"expand": (96, 32, 1, 1), "depthwise": (96, 1, 3, 3), "project": (32, 96, 1, 1)}
    weights = [
        numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32) * 0.1, name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "expand"], ["a"]),
        helper.make_node("Conv", ["a", "depthwise"], ["b"], pads=[1] * 4, group=96),
        helper.make_node("Conv", ["b", "project"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1, 32, PIXELS, PIXELS]) for v in "xy"]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    path = tmp_path_factory.mktemp("model") / "chain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def task(model: Path) -> Task:
    """The choice for the whole chain; its end, without the expansion, is another one."""
    fused = fuse(model, "native", None, None, CompileOptions())
    tasks = chain_algorithm_tasks(fused.chains, fused.target)
    return next(task for task in tasks if task.workload["narrow"])


def templates(executable: relaxc.Executable) -> set[str]:
    return {kernel["template"] for kernel in executable.metadata["kernels"]}


def test_the_champion_is_compiled(model: Path, task: Task, tmp_path: Path) -> None:
    records = tmp_path / "records"
    slow, fast = (Measurement(Status.OK, (seconds,) * 9) for seconds in (2.0, 1.0))
    key = TargetKey(resolve("native").mcpu, default_threads())
    entries = (Entry(task.default, slow), Entry(FUSED, fast))
    time = "2026-01-01T00:00:00.000+00:00"
    append_record(records, Record(task.kernel, key, task.name, task.numbers, Purpose.MODEL, entries, time))
    image = np.random.default_rng(1).standard_normal((1, 32, PIXELS, PIXELS)).astype(np.float32)
    plain, tuned = relaxc.compile(model), relaxc.compile(model, tuning_records=records)
    assert task.kernel.template == CHOICE
    assert "separable_conv2d" not in templates(plain)
    assert "separable_conv2d" in templates(tuned)
    np.testing.assert_allclose(tuned.run({"x": image})["y"], plain.run({"x": image})["y"], atol=1e-4)


def test_variants_of_a_model_are_compiled_and_run(model: Path, task: Task) -> None:
    options = RunOptions(default_threads())
    variants = ModelVariants(Compilation(model), {task.kernel: task.default}, 0.01, options)
    found = variants.compare([{}, {task.kernel: FUSED}], processes=1)
    assert [each.status for each in found] == [Status.OK] * 2
    assert len(found[0].seconds) == len(found[1].seconds)


def test_a_variant_that_cannot_be_compiled_fails_alone(model: Path, task: Task) -> None:
    variants = ModelVariants(
        Compilation(model, refused=True), {task.kernel: task.default}, 0.01, RunOptions(default_threads())
    )
    default, other = variants.compare([{}, {task.kernel: FUSED}], processes=1)
    assert (default.status, other.status) == (Status.OK, Status.BUILD_ERROR)
    assert "refused" in other.message


class Compilation:
    """Compiles a model; only without other algorithms, if those are refused."""

    def __init__(self, model: Path, refused: bool = False) -> None:
        self.model, self.refused = model, refused

    def __call__(self, tuning_records: TunedKernels) -> relaxc.Executable:
        if self.refused and tuning_records.champions:
            raise ValueError("refused")
        return compile(self.model, tuning_records=tuning_records)
