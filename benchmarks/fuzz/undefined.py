"""Operations whose result no specification says, met with the values of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray[Any, Any]


def undefined_nodes(model: onnx.ModelProto, values: Mapping[str, Any]) -> list[str]:
    """The outputs of nodes without a defined result.

    These are casts of floating-point numbers to integers that cannot hold them, integer divisions by zero
    and integer powers below zero.

    Args:
        model: without subgraphs.
        values: every value of the run by name.
    """
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer} | dict(values)
    return [node.output[0] for node in model.graph.node if _is_undefined(node, known)]


def _is_undefined(node: onnx.NodeProto, values: Mapping[str, Any]) -> bool:
    inputs = [np.asarray(values[name]) for name in node.input if name in values]
    if node.op_type == "Cast":
        return bool(inputs) and _overflows(inputs[0], np.asarray(values[node.output[0]]).dtype)
    if node.op_type in ("Div", "Mod"):
        return len(inputs) == 2 and inputs[1].dtype.kind in "iu" and not inputs[1].all()
    if node.op_type == "Pow":
        return len(inputs) == 2 and inputs[0].dtype.kind in "iu" and bool((inputs[1] < 0).any())
    return False


def _overflows(array: Array, target: np.dtype[Any]) -> bool:
    if array.dtype.kind != "f" or target.kind not in "iu":
        return False
    limits = np.iinfo(target)
    with np.errstate(invalid="ignore"):
        whole = np.trunc(array.astype(np.float64))
        return not bool(np.all((whole >= limits.min) & (whole < float(limits.max) + 1)))
