"""OpenVINO as the peer: compiled models on equal terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openvino
from numpy.typing import NDArray


class OpenVinoModel:
    """A model compiled by OpenVINO for latency on the CPU.

    Args:
        model: an ONNX file.
        threads: of one call.
        precision: ``"f32"``, ``"bf16"`` or ``"f16"``, what it computes in.
    """

    def __init__(self, model: Path, threads: int, precision: str = "f32") -> None:
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = openvino.Core().compile_model(str(model), "CPU", options).create_infer_request()

    def run(self, feed: dict[str, NDArray[Any]]) -> Any:
        """All outputs."""
        return self._request.infer(feed, share_inputs=True, share_outputs=True)
