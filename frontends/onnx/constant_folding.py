"""Evaluation of nodes whose inputs are all constants, by onnx's reference implementation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun
from onnx.reference.ops._op_list import load_op

from .node import Node
from .values import Value

_MAX_ELEMENTS = 1 << 24
_LEFT_TO_KERNELS = {
    "Conv", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN", "If", "Loop", "Scan", "SequenceMap",
    "Expand", "Tile", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike",
    "Bernoulli", "Multinomial", "Resize", "Upsample", "Dropout", "Erf",
}  # fmt: skip
_SMALL = 1 << 16


def fold(node: Node) -> list[Value] | None:
    """The node's outputs as constants, or None if it is better left to a converter."""
    if node.domain not in ("", "ai.onnx") or not all(_foldable(value) for value in node.inputs):
        return None
    if node.op_type in _LEFT_TO_KERNELS and not _is_small(node):
        return None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = _evaluate(node)
    except Exception:
        # Whatever the reference implementation cannot do, the converter will do or refuse.
        return None
    if not all(isinstance(result, np.ndarray | np.generic) for result in results):
        return None
    return [np.asarray(result) for result in results]


def _evaluate(node: Node) -> tuple[Any, ...]:
    implementation: type[OpRun] = load_op("", node.op_type, node.opset)
    parameters = {
        "log": lambda *_: None,
        "opsets": {"": node.opset},
        "verbose": 0,
        "new_ops": None,
        "existing_functions": {},
        "evaluator_cls": onnx.reference.ReferenceEvaluator,
    }
    results: tuple[Any, ...] = implementation(node.proto, parameters).run(*node.inputs)
    return results


def _foldable(value: Value) -> bool:
    return value is None or (isinstance(value, np.ndarray) and value.size <= _MAX_ELEMENTS)


def _is_small(node: Node) -> bool:
    """Whether an operator that may inflate its inputs certainly gives a small result."""
    if node.op_type not in ("Expand", "Tile"):
        return False
    data, sizes = node.inputs[0], node.inputs[1]
    if not isinstance(data, np.ndarray) or not isinstance(sizes, np.ndarray):
        return False
    return bool(data.size * np.prod(np.maximum(sizes.astype(float), 1)) <= _SMALL)
