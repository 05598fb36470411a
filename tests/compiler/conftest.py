"""The command line, called in this process, and a model small enough to compile in a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from relaxc.compiler.cli import main


@dataclass(frozen=True)
class Finished:
    """What a command line left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a user's error."""
        assert (self.code, self.err.count("\n"), "Traceback" in self.err) == (1, 1, False), self.err
        assert self.err.startswith("error: ")
        return self.err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs ``relaxc`` with arguments."""

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(list(map(str, arguments)))
        captured = capsys.readouterr()
        return Finished(int(exit_.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def gemm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``y = relu(x @ w + b)`` with ``x`` of shape [batch, 8]."""
    generator = np.random.default_rng(0)
    weights = {"w": generator.standard_normal((8, 4)), "b": generator.standard_normal(4)}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"], "dense"),
            onnx.helper.make_node("Relu", ["h"], ["y"], "activation"),
        ],
        "gemm",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("gemm") / "gemm.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    return path
