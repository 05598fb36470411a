"""A compilation multiplies by Strassen's algorithm where records say so, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relaxc
from relaxc.autotune.matmul_algorithm_tasks import matmul_algorithm_tasks
from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.records import Entry, Purpose, Record, TargetKey, append_record, read_records
from relaxc.compiler.driver import fuse
from relaxc.compiler.model_contest import is_algorithm, some_records
from relaxc.compiler.options import CompileOptions
from relaxc.runtime.processor import default_threads
from relaxc.targets.cpu.matmul_algorithms import CHOICE, DIRECT, STRASSEN
from relaxc.targets.registry import resolve


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32) / 16
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64, 256]) for name in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def records(model: Path, tmp_path: Path) -> Path:
    """A contest that Strassen's algorithm has won."""
    fused = fuse(model, "native", None, None, CompileOptions())
    (task,) = matmul_algorithm_tasks(fused.products, fused.target, model_bytes=0)
    slow, fast = (Measurement(Status.OK, (seconds,) * 9) for seconds in (2.0, 1.0))
    key = TargetKey(resolve("native").mcpu, default_threads())
    entries = (Entry(DIRECT, slow), Entry(STRASSEN, fast))
    time = "2026-01-01T00:00:00.000+00:00"
    path = tmp_path / "records"
    append_record(path, Record(task.kernel, key, task.name, task.numbers, Purpose.CONTEST, entries, time))
    return path


def templates(executable: relaxc.Executable) -> set[str]:
    return {kernel["template"] for kernel in executable.metadata["kernels"]}


def test_the_champion_is_compiled(model: Path, records: Path) -> None:
    x = np.random.default_rng(1).standard_normal((1, 64, 256)).astype(np.float32)
    plain, tuned = relaxc.compile(model), relaxc.compile(model, tuning_records=records)
    assert (templates(plain), templates(tuned)) == ({"matmul"}, {"strassen_matmul"})
    np.testing.assert_allclose(tuned.run({"x": x})["y"], plain.run({"x": x})["y"], atol=1e-5)


def test_an_option_keeps_products_direct(model: Path, records: Path) -> None:
    options = CompileOptions(strassen=False)
    assert templates(relaxc.compile(model, tuning_records=records, options=options)) == {"matmul"}


def test_narrow_precision_stays_direct(model: Path, records: Path) -> None:
    tuned = relaxc.compile(model, precision="bf16", tuning_records=records)
    assert "strassen_matmul" not in templates(tuned)


def test_an_edited_record_is_ignored_with_a_note(model: Path, records: Path) -> None:
    records.write_text(records.read_text().replace('"strassen":1', '"strassen":2'))
    with pytest.warns(UserWarning, match="no algorithm of products"):
        assert templates(relaxc.compile(model, tuning_records=records)) == {"matmul"}


def test_a_tuning_session_keeps_the_choice_when_it_compares_schedules(records: Path) -> None:
    with some_records(records, is_algorithm) as kept:
        assert [record.kernel.template for record in read_records(kept).records] == [CHOICE]
