"""``relaxc compile``: from a model file to an artifact, and every way in which that can fail."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import relaxc
from relaxc.runtime.processor import missing_features


def save(path: Path, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto] | None = None) -> Path:
    """A model from ``x`` to ``y``, both [2, 2]."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers or [])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    )
    return path


def expected(model: Path, x: np.ndarray) -> np.ndarray:
    weights = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer
    }
    return np.asarray(np.maximum(x.astype(np.float64) @ weights["w"] + weights["b"], 0))


def test_a_model_becomes_an_artifact_that_runs(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.so"
    done = command("compile", gemm_model, "-o", output)
    assert done.code == 0
    assert str(output) in done.out
    assert (
        "importing the model" in done.err.splitlines()
    )  # progress is plain lines where there is no terminal
    executable = relaxc.load(output)
    for batch in (1, 5):
        x = np.random.default_rng(batch).standard_normal((batch, 8)).astype(np.float32)
        np.testing.assert_allclose(
            executable.run({"x": x})["y"], expected(gemm_model, x), rtol=1e-4, atol=1e-5
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.so"]


def test_a_model_in_fp16_runs_with_half_the_weights(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    output, results = tmp_path / "model.so", tmp_path / "y.npz"
    assert command("compile", gemm_model, "-o", output, "--precision", "fp16").code == 0
    assert relaxc.load(output).metadata["precision"] == "fp16"
    assert "float16" in {weight["dtype"] for weight in relaxc.load(output).metadata["weights"]}
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    assert command("run", output, "--inputs", tmp_path / "x.npz", "--outputs", results).code == 0
    np.testing.assert_allclose(np.load(results)["y"], expected(gemm_model, x), rtol=0.002, atol=0.005)


def test_a_target_without_conversions_has_no_fp16(command: Any, gemm_model: Path) -> None:
    target = json.dumps({"kind": "llvm", "mcpu": "nehalem"})
    done = command("compile", gemm_model, "--target", target, "--precision", "fp16")
    assert done.code == 1
    assert "needs F16C, which target CPU 'nehalem' lacks" in done.err


def test_the_same_input_gives_the_same_bytes(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    for name in ("a.so", "b.so"):
        assert command("compile", gemm_model, "-o", tmp_path / name).code == 0
    assert (tmp_path / "a.so").read_bytes() == (tmp_path / "b.so").read_bytes()


def test_the_models_name_is_the_default(
    command: Any, gemm_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("compile", gemm_model).code == 0
    assert Path("gemm.so").is_file()


def test_shapes_are_bound(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.so"
    assert command("compile", gemm_model, "-o", output, "--shape", "x:3,8").code == 0
    assert relaxc.load(output).inputs[0].shape == (3, 8)


def test_verbose_lists_kernels_and_their_templates(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.so"
    done = command("compile", gemm_model, "-o", output, "--verbose", "--shape", "x:3,8")
    for kernel in relaxc.load(output).metadata["kernels"]:
        assert kernel["name"] in done.out
        assert kernel["template"] in done.out


def test_a_target_may_be_given_in_tvms_words(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    if missing_features(["avx2", "fma"]):
        pytest.skip("this CPU has no AVX2")
    target = json.dumps({"kind": "llvm", "mcpu": "x86-64-v3"})
    output = tmp_path / "model.so"
    assert command("compile", gemm_model, "-o", output, "--target", target).code == 0
    assert "x86-64-v3" in relaxc.load(output).metadata["target"]


@pytest.mark.parametrize(
    ("stage", "content"),
    [("relax", "R.function"), ("tir", "T.prim_func"), ("llvm", "define "), ("asm", ".text")],
)
def test_a_stage_can_be_printed_instead(
    command: Any, gemm_model: Path, tmp_path: Path, stage: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command("compile", gemm_model, "--emit", stage)
    assert done.code == 0
    assert content in done.out
    assert list(tmp_path.iterdir()) == []


def test_the_program_after_each_pass_can_be_kept(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    assert command("compile", gemm_model, "-o", tmp_path / "m.so", "--dump-ir", tmp_path / "ir").code == 0
    assert list((tmp_path / "ir").iterdir())


def test_an_input_can_be_made_a_constant(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((2, 8)).astype(np.float32)
    np.savez(tmp_path / "static.npz", x=x)
    done = command("compile", gemm_model, "-o", tmp_path / "m.so", "--static-inputs", tmp_path / "static.npz")
    assert done.code == 0
    executable = relaxc.load(tmp_path / "m.so")
    assert executable.inputs == ()
    np.testing.assert_allclose(executable.run({})["y"], expected(gemm_model, x), rtol=1e-4, atol=1e-5)


class TestErrors:
    @pytest.fixture
    def fails(self, command: Any, tmp_path: Path) -> Any:
        """Compiles, expects a user's error, and checks that no file was left."""

        def run(model: Path, *arguments: str | Path) -> str:
            folder = tmp_path / "output"
            folder.mkdir(exist_ok=True)
            done = command("compile", model, "-o", folder / "model.so", *arguments)
            errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
            assert (done.code, len(errors), "Traceback" in done.err) == (1, 1, False), done.err
            assert done.err.splitlines()[-1] == errors[0]
            assert list(folder.iterdir()) == []
            return str(errors[0])

        return run

    def test_a_missing_file(self, fails: Any) -> None:
        assert "no such file" in fails(Path("missing.onnx"))

    def test_a_file_that_is_no_model(self, fails: Any, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("this is no model")
        assert "text.onnx" in fails(tmp_path / "text.onnx")

    def test_a_truncated_model(self, fails: Any, gemm_model: Path, tmp_path: Path) -> None:
        (tmp_path / "cut.onnx").write_bytes(gemm_model.read_bytes()[:-40])
        fails(tmp_path / "cut.onnx")

    @pytest.mark.parametrize(
        ("location", "message"), [("missing.bin", "no such file"), ("../outside.bin", "outside")]
    )
    def test_external_data_that_cannot_be_used(
        self, fails: Any, tmp_path: Path, location: str, message: str
    ) -> None:
        (tmp_path / "outside.bin").write_bytes(bytes(16))
        (tmp_path / "models").mkdir()
        weight = onnx.numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=location)
        nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
        assert message in fails(save(tmp_path / "models" / "m.onnx", nodes, [weight]))

    def test_unsupported_operators_are_listed_all_at_once(self, fails: Any, tmp_path: Path) -> None:
        nodes = [
            helper.make_node("Fly", ["x"], ["h"], "first"),
            helper.make_node("Swim", ["h"], ["y"], "second"),
        ]
        for node in nodes:
            node.domain = "animals"
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("animals", 1)]
        path = tmp_path / "m.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
        message = fails(path)
        assert all(word in message for word in ("Fly", "Swim", "first", "second"))

    def test_an_unknown_target(self, fails: Any, gemm_model: Path) -> None:
        assert "unknown target 'abacus'" in fails(gemm_model, "--target", "abacus")

    def test_a_wrong_shape(self, fails: Any, gemm_model: Path) -> None:
        fails(gemm_model, "--shape", "z:1,2")
        fails(gemm_model, "--shape", "x:1,9")
        fails(gemm_model, "--shape", "x:1,2,3")

    def test_a_precision_that_needs_what_is_not_there(self, fails: Any, gemm_model: Path) -> None:
        assert "int8" in fails(gemm_model, "--precision", "int8")

    def test_a_pass_that_does_not_exist(self, fails: Any, gemm_model: Path) -> None:
        assert "no_such_pass" in fails(gemm_model, "--disable-pass", "no_such_pass")

    def test_calibration_data_of_unequal_length(self, fails: Any, gemm_model: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "data.npz", a=np.ones((2, 3)), b=np.ones((4, 3)))
        assert "a has 2, b has 4" in fails(gemm_model, "--calibration", tmp_path / "data.npz")

    def test_a_full_disk(self, fails: Any, gemm_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_to_user = os.replace

        def replace(source: Path, target: Path) -> None:
            if target.parent.name == "output":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            save_to_user(source, target)

        monkeypatch.setattr(os, "replace", replace)
        assert "No space left on device" in fails(gemm_model)

    def test_an_impossible_place_is_found_before_the_long_work(self, command: Any, gemm_model: Path) -> None:
        for output in ("/no/such/folder/model.so", "/proc/model.so", "/"):
            done = command("compile", gemm_model, "-o", output)
            assert "cannot write" in done.error  # one line only: no progress was reported


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["m.onnx", "--shape", "x"],
        ["m.onnx", "--precision", "fp1"],
        ["m.onnx", "--emit", "prose"],
        ["m.onnx", "--target", "{no json"],
    ],
)
def test_wrong_usage_exits_with_2(command: Any, arguments: list[str]) -> None:
    assert command("compile", *arguments).code == 2
