"""What every test may use, and the count of models checked that ends each run."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relaxc.runtime.signature import KernelSpec, Signature, TensorSpec

# Commands are tested as they behave without a terminal, with variables that a test sets itself.
for _variable in (
    *("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "NO_COLOR", "PY_COLORS"),
    *("TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("RELAXC_RPC_SECRET", "RELAXC_TVM_RUNTIME"),
):
    os.environ.pop(_variable, None)

MODEL_CHECKED = "model checked against ONNX Runtime"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many models agree with ONNX Runtime; workers report through the properties of tests."""
    passed = terminalreporter.getreports("passed")
    checked = {
        str(value) for report in passed for key, value in report.user_properties if key == MODEL_CHECKED
    }
    models = {variant.partition(" (")[0] for variant in checked}
    if checked:
        terminalreporter.section("models checked against ONNX Runtime")
        terminalreporter.write_line(f"{len(models)} models agree, compiled in {len(checked)} ways:")
        terminalreporter.write_line(", ".join(sorted(checked)))


@dataclasses.dataclass(frozen=True)
class ToyModel:
    """A small Relax module, for tests of what comes after compilation.

    Attributes:
        module: holds ``main``, which takes the inputs, then the weights, and returns a tuple.
    """

    module: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[np.ndarray, ...] = ()
    kernels: tuple[KernelSpec, ...] = ()
    cpu_features: tuple[str, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Compiles the module and writes it as an artifact."""
        import tvm
        from tvm import relax
        from tvm.target import Target, codegen

        from relaxc.compiler.artifact_writer import place_weights, write_artifact

        target = Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()})
        versions = {"relaxc": "0", "tvm": tvm.__version__} | self.versions
        signature = Signature(
            inputs=self.inputs,
            outputs=self.outputs,
            weights=place_weights(self.weights),
            kernels=self.kernels,
            target=str(target),
            cpu_features=self.cpu_features,
            versions=versions,
            source_hash="0" * 64,
        )
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "library.so"
            relax.build(self.module, target).export_library(str(library))
            write_artifact(path, library, signature, self.weights)
        return path


def dense_model() -> ToyModel:
    """``hidden = relu(x @ w)`` with ``x`` of any batch size, and ``x`` and ``w`` handed through."""
    import tvm
    from tvm import relax

    batch = tvm.tirx.Var("batch", "int64")
    x = relax.Var("x", relax.TensorType((batch, 3), "float32"))
    w = relax.Var("w", relax.TensorType((3, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, w]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, w))
            hidden = builder.emit(relax.op.nn.relu(product))
            result = builder.emit_output(relax.Tuple([hidden, x, w]))
        builder.emit_func_output(result)
    return ToyModel(
        module=builder.get(),
        inputs=(TensorSpec("x", ("batch", 3), "float32"),),
        outputs=(
            TensorSpec("hidden", ("batch", 4), "float32"),
            TensorSpec("x_again", ("batch", 3), "float32"),
            TensorSpec("w_again", (3, 4), "float32"),
        ),
        weights=(DENSE_WEIGHT,),
        kernels=(
            KernelSpec("matmul", "matmul", 1, None, None),
            KernelSpec("relu", "elementwise", 1, 64, 512),
        ),
    )


DENSE_WEIGHT = (np.arange(12, dtype=np.float32) - 5).reshape(3, 4)


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of ``dense_model``."""
    return dense_model().write(tmp_path_factory.mktemp("dense") / "model.so")


@pytest.fixture(scope="session")
def toy_model() -> type[ToyModel]:
    """The class, for tests that build models of their own."""
    return ToyModel


@pytest.fixture
def dense_toy() -> ToyModel:
    """The model behind ``dense``, to be changed and compiled again."""
    return dense_model()
