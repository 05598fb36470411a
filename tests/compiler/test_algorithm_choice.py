"""A compilation takes the algorithms that won when they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import relaxc
from relaxc.autotune.conv2d_algorithm_tasks import conv2d_algorithm_tasks
from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.records import Entry, Purpose, Record, TargetKey, append_record, read_records
from relaxc.compiler.cli import main
from relaxc.compiler.driver import fuse
from relaxc.compiler.options import CompileOptions
from relaxc.runtime.processor import default_threads
from relaxc.targets.cpu.conv2d_algorithms import CHOICE, DIRECT
from relaxc.targets.registry import resolve


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough for Winograd even on many cores."""
    return convolutions(tmp_path_factory.mktemp("model"), channels=64, size=56)


def convolutions(folder: Path, channels: int, size: int) -> Path:
    """A pointwise convolution, and one with a window of 3 x 3."""
    generator = np.random.default_rng(0)
    shapes = {"w0": (channels, channels, 1, 1), "w1": (channels, channels, 3, 3)}
    weights = [
        numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32) * 0.1, name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c"]),
        helper.make_node("Conv", ["c", "w1"], ["y"], pads=[1] * 4),
    ]
    shape = [1, channels, size, size]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph(nodes, "convolutions", ends[:1], ends[1:], weights)
    path = folder / "convolutions.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def contest(model: Path, default: Mapping[str, int] | None, winner: Mapping[str, int]) -> Record:
    """One that ``winner`` has won against ``default``: the cost model's choice if None is given."""
    fused = fuse(model, "native", None, None, CompileOptions())
    (task,) = conv2d_algorithm_tasks(fused.convolutions, fused.target, model_bytes=0)
    slow, fast = (Measurement(Status.OK, (seconds,) * 9) for seconds in (2.0, 1.0))
    return Record(
        task.kernel,
        TargetKey(resolve("native").mcpu, default_threads()),
        task.name,
        task.numbers,
        Purpose.CONTEST,
        (Entry(task.default if default is None else default, slow), Entry(winner, fast)),
        "2026-01-01T00:00:00.000+00:00",
    )


def templates(executable: relaxc.Executable) -> set[str]:
    return {kernel["template"] for kernel in executable.metadata["kernels"]}


def test_the_champion_is_compiled(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    append_record(records, contest(model, None, DIRECT))
    image = np.random.default_rng(1).standard_normal((1, 64, 56, 56)).astype(np.float32)
    plain, tuned = relaxc.compile(model), relaxc.compile(model, tuning_records=records)
    assert "winograd_conv2d" in templates(plain)
    assert "winograd_conv2d" not in templates(tuned)
    np.testing.assert_allclose(tuned.run({"x": image})["y"], plain.run({"x": image})["y"], atol=1e-4)


def test_a_champion_over_another_default_is_ignored_with_a_note(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    append_record(records, contest(model, {"tile": 6, "count": 1}, DIRECT))
    with pytest.warns(UserWarning, match="default that it was compared with has changed"):
        assert "winograd_conv2d" in templates(relaxc.compile(model, tuning_records=records))


def test_without_winograd_no_record_brings_it_back(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records"
    append_record(records, contest(model, None, {"tile": 4, "count": 7}))
    options = CompileOptions(winograd=False)
    assert "winograd_conv2d" not in templates(relaxc.compile(model, tuning_records=records, options=options))


def test_tuning_chooses_algorithms_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("xgboost")
    model = convolutions(tmp_path, channels=32, size=28)
    records = tmp_path / "records"
    command = ["tune", str(model), "-o", str(records), "--trials", "16", "--batch", "4"]
    assert _run(command) == 0
    assert "1 operators whose algorithm is to choose" in capfd.readouterr().err
    read = read_records(records).records
    assert read[0].kernel.template == CHOICE
    trials = [record for record in read if record.purpose is Purpose.TRIAL]
    assert sum(record.kernel.template == CHOICE for record in trials) == 4
    assert all(entry.measurement.ok for record in trials for entry in record.entries)
    assert _run(["records", "prune", str(records)]) == 0
    assert any(record.kernel.template == CHOICE for record in read_records(records).records)


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)
