"""Evaluation of operators on shapes and on what models compute from them: shape arithmetic is not data.

Every function takes a node whose inputs are constants or symbolic arrays and gives its outputs as such,
or None where the operator has to run on data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from .node import Node
from .values import SymbolicArray, Value, freeze, is_constant, is_shape_like, object_array

Elements = np.ndarray[Any, np.dtype[np.object_]]

Evaluator: TypeAlias = Callable[[Node], Value | list[Value]]

_evaluators: dict[str, Evaluator] = {}


def evaluate(node: Node) -> list[Value] | None:
    """The node's outputs, if it is arithmetic on shapes and nothing else."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if all(is_constant(value) for value in node.inputs) and node.op_type != "ConstantOfShape":
        return None
    if node.op_type not in _evaluators or not all(is_shape_like(value) for value in node.inputs):
        return None
    result = _evaluators[node.op_type](node)
    if result is None:
        return None
    results = result if isinstance(result, list) else [result]
    return [freeze(r) if isinstance(r, SymbolicArray) else r for r in results]


def evaluates(*op_types: str) -> Callable[[Evaluator], Evaluator]:
    """Registers the decorated function for operators."""

    def register(function: Evaluator) -> Evaluator:
        _evaluators.update(dict.fromkeys(op_types, function))
        return function

    return register


def elements_of(node: Node, index: int) -> Elements:
    """An input's elements: int, float, bool or TIR expressions."""
    value = node.value(index)
    if isinstance(value, SymbolicArray):
        return value.elements
    assert isinstance(value, np.ndarray)
    return object_array([element.item() for element in value.reshape(-1)]).reshape(value.shape)


def like(node: Node, array: Any, index: int = 0) -> SymbolicArray:
    """The elements (or the only one) as a value of an input's type."""
    if not isinstance(array, np.ndarray):
        array = object_array([array]).reshape(())
    return SymbolicArray(array, node.dtype(index))


def axes_given(node: Node) -> list[int] | None:
    """Axes from the attribute or, from opset 13 on, the input; None if absent."""
    if node.has_attribute("axes"):
        return list(node.integers("axes"))
    return [int(axis) for axis in node.constant(1)] if node.has(1) else None
