"""A wrong compiler is noticed, its failure cut down, stored, and fails again when it is replayed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser

import relaxc
import relaxc.compiler.driver
from benchmarks.fuzz import __main__ as fuzz
from benchmarks.fuzz.generated import GeneratedModel
from benchmarks.fuzz.judgement import differences
from relaxc.compiler.npz_files import write_npz
from relaxc.compiler.verify.reference import Reference

Compile = Callable[..., relaxc.Executable]

MODEL = parser.parse_model(
    """<ir_version: 8, opset_import: ["": 17]>
    graph (float[4] x, float[4] w) => (float[4] y, float[4] z) {
        a = Sin(x) b = Add(a, w) c = Neg(b) d = Exp(c) y = Mul(d, w) z = Cos(x)
    }"""
)
FEED = {"x": np.linspace(0, 1, 4, dtype=np.float32), "w": np.linspace(1, 2, 4, dtype=np.float32)}


@pytest.fixture
def generated(tmp_path: Path) -> GeneratedModel:
    """A model as NNSmith leaves it."""
    case = GeneratedModel(tmp_path / "00007.onnx")
    onnx.save(MODEL, case.path)
    write_npz(case.path.with_suffix(".npz"), FEED)
    write_npz(case.path.with_suffix(".torch.npz"), Reference.ONNXRUNTIME.run(MODEL, FEED))
    return case


def run_fuzzer(case: GeneratedModel, folder: Path, compiler: Compile, monkeypatch: pytest.MonkeyPatch) -> int:
    """``python -m benchmarks.fuzz models`` on one model, with another compiler; returns the exit code."""
    with monkeypatch.context() as patch:
        patch.setattr(relaxc, "compile", compiler, raising=False)
        patch.setattr(relaxc.compiler.driver, "compile", compiler)
        patch.setattr(fuzz, "generate", lambda *_arguments: [case])
        patch.setattr(sys, "argv", ["fuzz", "--jobs", "1", "models", "--regressions", str(folder)])
        return fuzz.main()


def replayed(path: Path, compiler: Compile) -> list[str]:
    """The outputs of a stored case that differ from what is expected."""
    with np.load(path.with_suffix(".npz")) as feed, np.load(path.with_suffix(".expected.npz")) as expected:
        actual = compiler(onnx.load(path)).run(dict(feed))
        return [error.name for error in differences(dict(expected), actual)]


def forgetting_signs(model: onnx.ModelProto, *arguments: Any, **options: Any) -> relaxc.Executable:
    """A compiler that takes Neg for Identity."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    for node in wrong.graph.node:
        node.op_type = "Identity" if node.op_type == "Neg" else node.op_type
    return right(wrong, *arguments, **options)


def crashing(model: onnx.ModelProto, *_arguments: Any, **_options: Any) -> relaxc.Executable:
    """A compiler that takes its process along."""
    os.abort()


right = relaxc.compiler.driver.compile


def test_a_right_compiler_passes(
    generated: GeneratedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cases"
    assert run_fuzzer(generated, folder, right, monkeypatch) == 0
    assert not folder.exists()


def test_a_wrong_result_is_cut_down_and_stored(
    generated: GeneratedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cases"
    assert run_fuzzer(generated, folder, forgetting_signs, monkeypatch) == 1
    (path,) = folder.glob("*.onnx")
    assert path.stem == "neg"
    assert [node.op_type for node in onnx.load(path).graph.node] == ["Neg"]
    assert replayed(path, forgetting_signs)
    assert not replayed(path, right)


def test_a_model_that_ends_the_process_is_stored_whole(
    generated: GeneratedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cases"
    assert run_fuzzer(generated, folder, crashing, monkeypatch) == 1
    (path,) = folder.glob("*.onnx")
    assert path.stem == "whole-00007"
    assert onnx.load(path) == MODEL
    assert not replayed(path, right)
