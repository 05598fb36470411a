"""``relaxc verify``, on a model that is compiled right and on one that is compiled wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from relaxc.compiler import driver
from relaxc.frontends.imported_model import ImportedModel
from relaxc.frontends.onnx import import_onnx
from relaxc.runtime.errors import UnsupportedOperatorError

REFERENCES = ["onnxruntime", "onnx"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve nodes on [batch, 8], among them one Tanh, named "the_tanh"."""
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32) / 3
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Abs", ["x"], ["a"]),
            node("Sqrt", ["a"], ["b"]),
            node("MatMul", ["b", "w"], ["c"]),
            node("Sigmoid", ["c"], ["d"]),
            node("Add", ["c", "d"], ["e"]),
            node("Tanh", ["e"], ["f"], "the_tanh"),
            node("Shape", ["x"], ["shape"]),
            node("Mul", ["f", "d"], ["g"]),
            node("Reshape", ["g", "shape"], ["h"]),
            node("Exp", ["h"], ["i"]),
            node("Neg", ["i"], ["j"]),
            node("Softmax", ["j"], ["y"]),
        ],
        "chain",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 8])],
        [
            onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 8]),
            onnx.helper.make_tensor_value_info("d", onnx.TensorProto.FLOAT, ["batch", 8]),
        ],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path_factory.mktemp("chain") / "chain.onnx"
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.fixture
def tanh_becomes_sin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler with a fault."""

    def faulty(model: onnx.ModelProto | str, *bindings: Any) -> ImportedModel:
        changed = onnx.ModelProto()
        changed.CopyFrom(model if isinstance(model, onnx.ModelProto) else onnx.load(model))
        for node in changed.graph.node:
            node.op_type = {"Tanh": "Sin"}.get(node.op_type, node.op_type)
        return import_onnx(changed, *bindings)

    monkeypatch.setattr(driver, "import_onnx", faulty)


@pytest.fixture
def tanh_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that lacks an operator."""

    def refusing(model: onnx.ModelProto, *bindings: Any) -> ImportedModel:
        if any(node.op_type == "Tanh" for node in model.graph.node):
            raise UnsupportedOperatorError("no Tanh")
        return import_onnx(model, *bindings)

    monkeypatch.setattr(driver, "import_onnx", refusing)


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_right_artifact_agrees(command: Any, gemm_model: Path, tmp_path: Path, reference: str) -> None:
    command("compile", gemm_model, "-o", tmp_path / "gemm.so")
    done = command("verify", gemm_model, tmp_path / "gemm.so", "--reference", reference, "--shape", "x:5,8")
    assert (done.code, done.err) == (0, "")
    name, form, *_, mismatches, _, total, cosine = done.out.splitlines()[1].split()
    assert (name, form, mismatches, total, cosine) == ("y", "float32[5,4]", "0", "20", "1.000000")


def test_an_artifact_of_another_model_disagrees(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    command("compile", gemm_model, "-o", tmp_path / "gemm.so")
    other = onnx.load(gemm_model)
    weight = next(tensor for tensor in other.graph.initializer if tensor.name == "b")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1, "b"))
    onnx.save(other, tmp_path / "other.onnx")
    done = command("verify", tmp_path / "other.onnx", tmp_path / "gemm.so")
    assert "1 of 1 outputs differ from ONNX Runtime: y: " in done.error
    assert "the artifact was compiled from another file" in done.error
    again = command("verify", tmp_path / "other.onnx", tmp_path / "gemm.so", "--layers")
    assert "the artifact is of another model or compiler" in again.out


def test_given_inputs_and_tolerances_are_used(command: Any, gemm_model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.ones((3, 8), np.float32))
    exact = ["--inputs", tmp_path / "in.npz", "--rtol", 0, "--atol", 0, "--reference", "onnx"]
    assert "float32[3,4]" in command("verify", gemm_model, *exact).out
    assert command("verify", gemm_model, "--inputs", tmp_path / "in.npz", "--atol", 1).code == 0


@pytest.mark.usefixtures("tanh_becomes_sin")
class TestFaultyCompiler:
    @pytest.mark.parametrize("reference", REFERENCES)
    def test_the_first_wrong_node_is_named(self, command: Any, chain: Path, reference: str) -> None:
        done = command("verify", chain, "--layers", "--reference", reference, "--shape", "x:4,8")
        assert "1 of 2 outputs differ" in done.err
        assert "error: " in done.err.splitlines()[-1]
        found = done.out.splitlines()
        position = next(i for i, line in enumerate(found) if line.startswith("first node that differs"))
        assert "Tanh 'the_tanh' -> f: " in found[position]
        assert found[position + 1].startswith("  reads e: float32[4,8] in [")

    def test_only_the_wrong_node_is_left(self, command: Any, chain: Path, tmp_path: Path) -> None:
        failing = tmp_path / "failing.onnx"
        done = command("verify", chain, "--reduce", failing)
        assert done.code == 1
        assert [node.op_type for node in onnx.load(failing).graph.node] == ["Tanh"]
        again = command("verify", failing, "--inputs", tmp_path / "failing.npz")
        assert "differ from ONNX Runtime" in again.error

    def test_the_node_that_layers_names_is_where_reducing_begins(
        self, command: Any, chain: Path, tmp_path: Path
    ) -> None:
        failing = tmp_path / "failing.onnx"
        done = command("verify", chain, "--layers", "--reduce", failing)
        assert "nodes still fail" not in done.err
        assert [node.op_type for node in onnx.load(failing).graph.node] == ["Tanh"]

    def test_the_artifact_itself_is_judged(self, command: Any, chain: Path, tmp_path: Path) -> None:
        command("compile", chain, "-o", tmp_path / "chain.so", "--shape", "x:2,8")
        done = command("verify", chain, tmp_path / "chain.so", "--layers")
        assert "float32[2,8]" in done.out
        assert "'the_tanh'" in done.out


@pytest.mark.usefixtures("tanh_is_refused")
def test_a_model_that_does_not_compile_is_reduced(command: Any, chain: Path, tmp_path: Path) -> None:
    assert "no Tanh" in command("verify", chain).error
    command("verify", chain, "--reduce", tmp_path / "failing.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "failing.onnx").graph.node] == ["Tanh"]


def test_static_inputs_must_be_given_again(command: Any, chain: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "static.npz", x=np.ones((2, 8), np.float32))
    static = tmp_path / "static.npz"
    command("compile", chain, "-o", tmp_path / "chain.so", "--static-inputs", static)
    done = command("verify", chain, tmp_path / "chain.so")
    assert "input 'x' is part of the artifact" in done.error
    assert command("verify", chain, tmp_path / "chain.so", "--inputs", static).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx"], "missing.onnx: no such file"),
        (["{model}", "missing.so"], "no such file"),
        (["{model}", "--inputs", "missing.npz"], "no such file: missing.npz"),
        (["{model}", "--shape", "z:1"], "no input 'z' to shape"),
        (["{model}", "--reduce", "/no/such/folder/f.onnx"], "does not exist"),
    ],
)
def test_mistakes_end_in_one_line(command: Any, gemm_model: Path, arguments: list[str], message: str) -> None:
    assert message in command("verify", *(a.format(model=gemm_model) for a in arguments)).error
