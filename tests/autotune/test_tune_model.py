"""A small model, tuned for real."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relaxc
from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.records import Entry, Purpose, Record, read_records, write_records
from relaxc.autotune.tasks import extract_tasks
from relaxc.compiler.cli import main
from relaxc.compiler.driver import fuse
from relaxc.compiler.options import CompileOptions
from relaxc.runtime.processor import default_threads, missing_features
from relaxc.targets.registry import resolve


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions, two of which are the same, and a dense layer."""
    generator = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for i, (outputs, inputs, window) in enumerate([(32, 3, 3), (32, 32, 1), (32, 32, 1)]):
        array = generator.standard_normal((outputs, inputs, window, window)).astype(np.float32) * 0.1
        weights.append(numpy_helper.from_array(array, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[window // 2] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        value = f"r{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    dense = generator.standard_normal((32, 16)).astype(np.float32)
    weights.append(numpy_helper.from_array(dense, "dense"))
    nodes.append(helper.make_node("MatMul", ["flat", "dense"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16])],
        weights,
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_equal_kernels_are_one_task(model: Path) -> None:
    fused = fuse(model, "native", {"x": (1, 3, 16, 16)}, None, CompileOptions())
    extracted = extract_tasks(fused.module, resolve("native"))
    calls = {task.kernel: task.calls for task in extracted.tasks}
    assert sorted(calls.values())[-1] == 2
    assert all(task.space.find(task.default) is not None for task in extracted.tasks)
    repeated = next(task for task in extracted.tasks if task.calls == 2)
    assert max(repeated.copies) > 1  # the model's other weights push this one's out of the caches


def test_extents_of_run_time_leave_no_choice(model: Path) -> None:
    fused = fuse(model, "native", None, None, CompileOptions())
    extracted = extract_tasks(fused.module, resolve("native"))
    assert "extents known only at run time" in extracted.without_choice


def test_from_tuning_to_a_compiled_model(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xgboost")
    pytest.importorskip("jinja2")
    records, report = tmp_path / "small.records", tmp_path / "report.html"
    command = ["tune", str(model), "-o", str(records), "--shape", "x:1,3,16,16", "--threads", "1"]
    for trials in (4, 8):
        assert _run([*command, "--trials", str(trials), "--batch", "4", "--report", str(report)]) == 0
    assert "going on after 4 trials" in capfd.readouterr().err
    read = read_records(records).records
    assert sum(record.purpose is Purpose.TRIAL for record in read) == 8
    assert all(record.entries[0].measurement.ok for record in read)
    page = report.read_text()
    assert "<svg" in page
    assert not re.search(r"https?://", page)

    assert _run(["records", "show", str(records)]) == 0
    shown = capfd.readouterr().out
    assert "fused_conv2d" in shown
    _make_champion(records)
    artifact = tmp_path / "small.so"
    assert _run(["records", "prune", str(records), "--keep", "0"]) == 0
    arguments = ["--shape", "x:1,3,16,16", "--tuning-records", str(records), "-o", str(artifact)]
    assert _run(["compile", str(model), *arguments, "--verbose"]) == 0
    listed = capfd.readouterr().out
    assert re.search(r"fused_conv2d\S*\s+conv2d\s+tuned", listed)
    assert re.search(r"; [1-9] tuned\)", listed)
    image = np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)
    plain = relaxc.compile(model, shapes={"x": (1, 3, 16, 16)}).run({"x": image})
    tuned = relaxc.load(artifact).run({"x": image})
    np.testing.assert_allclose(tuned["y"], plain["y"], rtol=1e-4, atol=1e-4)


def _make_champion(records: Path) -> None:
    """Adds a contest that a convolution's schedule has won, for the threads of a compilation here.

    What was found inside the model would outweigh it, and depends on the clock: it goes.
    """
    found = [r for r in read_records(records).records if r.purpose in (Purpose.BASELINE, Purpose.TRIAL)]
    baseline = next(r for r in found if r.workload.get("in_lanes", 0) > 1)
    default = baseline.entries[0].knobs
    slow, fast = (Measurement(Status.OK, (seconds,) * 9) for seconds in (2.0, 1.0))
    entries = (Entry(default, slow), Entry({**default, "unroll": 2}, fast))
    target = replace(baseline.target, threads=default_threads())
    contest = replace(baseline, purpose=Purpose.CONTEST, entries=entries, target=target)
    write_records(records, [*found, contest])


def test_champions_stand_a_contest_inside_the_model(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "small.records"
    command = ["tune", str(model), "-o", str(records), "--shape", "x:1,3,16,16", "--search", "random"]
    assert _run([*command, "--trials", "1"]) == 0
    assert "inside the model: the defaults are best" in capfd.readouterr().out or _models(records)
    _make_champion(records)
    assert _run([*command, "--trials", "1"]) == 0
    assert re.search(
        r"inside the model: (\d+ tuned kernels kept, \d+ dropped; a run takes|the defaults are best)"
        r".*kernels tuned, together",  # the table of those that are left
        capfd.readouterr().out,
        re.DOTALL,
    )
    first, *_ = _models(records)
    assert all(entry.measurement.ok for entry in first.entries)
    assert len({len(entry.measurement.seconds) for entry in first.entries}) == 1
    tried = [r for r in read_records(records).records if r.purpose is Purpose.MODEL_TRIAL]
    assert tried
    assert all(entry.measurement.ok for record in tried for entry in record.entries)


def _models(records: Path) -> list[Record]:
    return [record for record in read_records(records).records if record.purpose is Purpose.MODEL]


def test_records_that_do_not_fit_are_ignored_with_a_notice(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "small.records"
    command = ["tune", str(model), "-o", str(records), "--shape", "x:1,3,16,16", "--threads", "1"]
    assert _run([*command, "--trials", "1", "--search", "random"]) == 0
    _make_champion(records)
    records.write_text(records.read_text().replace('"unroll":2', '"unroll":99'))
    arguments = ["--shape", "x:1,3,16,16", "--tuning-records", str(records), "-o", str(tmp_path / "small.so")]
    assert _run(["compile", str(model), *arguments]) == 0
    assert "is ignored: " in capfd.readouterr().err


@pytest.fixture
def product(tmp_path: Path) -> tuple[Path, Path]:
    """The product of two inputs, and values for the second one."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 64]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 32]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 32])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "product.onnx")
    np.savez(tmp_path / "w.npz", w=np.random.default_rng(0).standard_normal((64, 32), np.float32))
    return tmp_path / "product.onnx", tmp_path / "w.npz"


def test_the_kernels_are_those_of_a_compilation_with_the_same_options(
    product: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, weights = product
    for precision, inner in (("fp32", 64), ("bf16", 32), ("fp16", _STEPS_OF_FP16)):
        records = tmp_path / f"{precision}.records"
        command = ["tune", str(model), "-o", str(records), "--static-inputs", str(weights), "--threads", "1"]
        assert _run([*command, "--precision", precision, "--trials", "1", "--search", "random"]) == 0
        found = read_records(records).records
        assert next(r for r in found if r.purpose is Purpose.TRIAL).candidate.measurement.ok
        product_of_weights = next(r.workload for r in found if "inner" in r.workload)  # of either kernel
        assert product_of_weights["packed_before"] == 1  # although the model takes the weight as an input
        assert product_of_weights["inner"] == inner  # bf16 goes in pairs
    assert _run(["tune", str(model), "--precision", "int8"]) == 1
    assert "int8" in capfd.readouterr().err


_STEPS_OF_FP16 = 64 if missing_features(["avx512_fp16"]) else 2


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code
