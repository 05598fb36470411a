"""``relaxc inspect``, ``relaxc targets``, and the command line as such."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from relaxc.compiler import cli
from relaxc.compiler.reports.onnx_summary import summarize_onnx
from relaxc.compiler.reports.polynomial import Polynomial


def flops_of(nodes: list[onnx.NodeProto], inputs: Any, outputs: list[str], path: Path) -> str:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", values, results)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(summarize_onnx(path, {}).flops)


class TestFlops:
    def test_convolution(self, tmp_path: Path) -> None:
        node = helper.make_node("Conv", ["x", "w"], ["y"], group=2, strides=[2, 2], pads=[1, 1, 1, 1])
        shapes = {"x": ["batch", 4, 8, 8], "w": [6, 2, 3, 3]}
        # 6 maps of 4 x 4, each from 2 channels and 9 taps
        assert flops_of([node], shapes, ["y"], tmp_path / "m.onnx") == f"{2 * 6 * 16 * 18:.4g} batch"

    def test_transposed_convolution(self, tmp_path: Path) -> None:
        node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
        shapes = {"x": [1, 4, 5, 5], "w": [4, 3, 2, 2]}
        assert flops_of([node], shapes, ["y"], tmp_path / "m.onnx") == "2400"

    def test_matrix_products(self, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Gemm", ["v", "u"], ["g"], transA=1),
        ]
        shapes = {"x": ["n", 3, 4], "w": [4, 5], "v": [2, 7], "u": [2, 3]}
        assert flops_of(nodes, shapes, ["h", "g"], tmp_path / "m.onnx") == "120 n + 84"

    def test_recurrent_layers(self, tmp_path: Path) -> None:
        node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=3)
        shapes = {"x": [5, 2, 4], "w": [1, 12, 4], "r": [1, 12, 3]}
        assert flops_of([node], shapes, ["y"], tmp_path / "m.onnx") == f"{2 * 10 * (48 + 36)}"

    def test_sums_of_products(self) -> None:
        amount = Polynomial.product((2, "n", 3)) + Polynomial.product((4,)) + Polynomial.product(("n", 1))
        assert (str(amount), amount.value) == ("7 n + 4", None)
        assert (str(Polynomial()), Polynomial().value) == ("0", 0)


def test_a_model_is_described(command: Any, gemm_model: Path) -> None:
    facts = json.loads(command("inspect", gemm_model, "--json").out)
    assert facts["inputs"] == [{"name": "x", "shape": ["batch", 8], "dtype": "float32", "kind": "tensor"}]
    assert facts["operators"] == {"Gemm": 1, "Relu": 1}
    assert facts["parameters"] == 36
    assert (facts["flops"], facts["flops_formula"]) == (None, "64 batch")
    bound = json.loads(command("inspect", gemm_model, "--shape", "x:10,8", "--json").out)
    assert bound["flops"] == 640
    printed = command("inspect", gemm_model).out
    assert "batchx8" in printed
    assert "Gemm 1, Relu 1" in printed
    assert "64 batch" in printed


def test_an_artifact_is_described_without_running_it(command: Any, dense: Path) -> None:
    facts = json.loads(command("inspect", dense, "--json").out)
    assert facts["parameters"] == 12
    assert facts["templates"] == {"matmul": 1, "elementwise": 1}
    assert facts["inputs"] == [{"name": "x", "shape": ["batch", 3], "dtype": "float32", "kind": "tensor"}]
    assert "hidden" in command("inspect", dense).out


@pytest.mark.parametrize("name", ["missing.onnx", "missing.so"])
def test_missing_files(command: Any, name: str) -> None:
    assert "no such file" in command("inspect", name).error


def test_other_files_are_refused(command: Any, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model")
    (tmp_path / "text.so").write_text("this is no artifact")
    assert "not an ONNX model" in command("inspect", tmp_path / "text.onnx").error
    assert "not a relaxc artifact" in command("inspect", tmp_path / "text.so").error


def test_shapes_that_do_not_fit_are_refused(command: Any, gemm_model: Path) -> None:
    assert "no input 'z'" in command("inspect", gemm_model, "--shape", "z:1").error
    assert "rank 2" in command("inspect", gemm_model, "--shape", "x:1").error


def test_targets_and_the_machine_are_listed(command: Any) -> None:
    facts = json.loads(command("targets", "--json").out)
    assert "native" in [entry["name"] for entry in facts["targets"]]
    assert facts["targets"][0]["missing_features"] == []
    assert facts["machine"]["cores"] >= 1
    assert "x86-64-v3" in command("targets").out


@pytest.mark.parametrize("name", cli._COMMANDS)
def test_every_command_has_help_with_an_example(command: Any, name: str) -> None:
    done = command(name, "--help")
    assert done.code == 0
    assert f"relaxc {name}" in " ".join(done.out.split())
    assert "Example:" in done.out


def test_help_lists_all_commands(command: Any) -> None:
    done = command("--help")
    assert done.code == 0
    assert all(name in done.out for name in cli._COMMANDS)
    assert command("fly").code == 2


def test_an_unexpected_failure_is_one_line_unless_verbose(
    command: Any, dense: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("relaxc.runtime.load", broken)
    done = command("run", dense)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("internal error: ZeroDivisionError: a bug (run with --verbose")
    assert "Traceback" in command("--verbose", "run", dense).err


def test_the_verbose_option_shows_where_an_error_comes_from(command: Any) -> None:
    done = command("--verbose", "run", "missing.so")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("error: no such file")


def test_running_imports_neither_tvm_nor_onnx(dense: Path) -> None:
    code = (
        "import sys\nfrom relaxc.compiler.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([name for name in ('tvm', 'onnx', 'torch') if name in sys.modules])"
    )
    arguments = [sys.executable, "-c", code, "run", str(dense), "--shape", "x:1,3"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
