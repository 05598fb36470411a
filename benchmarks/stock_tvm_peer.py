"""Stock TVM, untuned, as the peer: its own importer and default pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from relaxc.targets.registry import resolve


class StockTvmModel:
    """A model as TVM builds it when nobody tunes or schedules anything.

    Args:
        model: an ONNX file.
        shapes: of the inputs.
    """

    def __init__(self, model: Path, shapes: dict[str, tuple[int, ...]]) -> None:
        module = from_onnx(onnx.load(model), shape_dict={name: list(shape) for name, shape in shapes.items()})
        executable = tvm.compile(module, resolve("native").tvm_target)
        self._machine = relax.VirtualMachine(executable, tvm.cpu())
        self._names = [param.name for param in module["main"].params]

    def run(self, feed: dict[str, NDArray[Any]]) -> Any:
        """All outputs."""
        return self._machine["main"](*(tvm.runtime.tensor(feed[name]) for name in self._names))
