"""ONNX Runtime as the peer: sessions on equal terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from relaxc.runtime.processor import default_threads


class OnnxRuntimeModel:
    """An ONNX Runtime session on the CPU that speaks in named arrays.

    Args:
        model: a file or a model in memory.
        threads: of one call; as many as relaxc uses where None.
    """

    def __init__(self, model: Path | onnx.ModelProto, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads or default_threads()
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """All outputs by name, in the model's order."""
        return dict(zip(self._names, self._session.run(None, feed), strict=True))
