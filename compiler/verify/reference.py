"""The implementations that a compiled model is held against."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime.errors import RelaxcError

if TYPE_CHECKING:
    import onnx

Feed = Mapping[str, np.ndarray[Any, Any]]
Outputs = dict[str, Any]


class Reference(StrEnum):
    """A reference implementation of ONNX."""

    ONNXRUNTIME = "onnxruntime"
    ONNX = "onnx"

    @property
    def label(self) -> str:
        """Its name in messages."""
        return "ONNX Runtime" if self is Reference.ONNXRUNTIME else "onnx's reference evaluator"

    def run(self, model: onnx.ModelProto, feed: Feed) -> Outputs:
        """All outputs by name, in the model's order.

        Raises:
            RelaxcError: the reference refuses the model or the inputs.
        """
        run = _run_onnxruntime if self is Reference.ONNXRUNTIME else _run_evaluator
        try:
            return run(model, feed)
        except Exception as error:  # neither says what it may raise
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            other = next(reference for reference in Reference if reference is not self)
            raise RelaxcError(
                f"{self.label} cannot run the model: {reason}; try other --inputs or --shape, "
                f"or --reference {other.value}"
            ) from error


def choose_reference(wanted: Reference | None = None) -> Reference:
    """The reference that is wanted, else ONNX Runtime where it is installed, else onnx's evaluator.

    Raises:
        RelaxcError: the one that is wanted is not installed.
    """
    installed = importlib.util.find_spec("onnxruntime") is not None
    if wanted is Reference.ONNXRUNTIME and not installed:
        raise RelaxcError("ONNX Runtime is not installed: pip install onnxruntime, or use --reference onnx")
    return wanted or (Reference.ONNXRUNTIME if installed else Reference.ONNX)


def _run_onnxruntime(model: onnx.ModelProto, feed: Feed) -> Outputs:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Node by node as the file says: nothing is fused, so every intermediate value is what it is called.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(feed)), strict=True))


def _run_evaluator(model: onnx.ModelProto, feed: Feed) -> Outputs:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Erf(OpRun):  # type: ignore[misc]
        """onnx's own rounds to float32, whatever the type."""

        def _run(self, x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any]]:
            return (np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),)

    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model, new_ops=[Erf]).run(None, dict(feed))
    return dict(zip([output.name for output in model.graph.output], results, strict=True))
