"""How much a model's results owe to rounding: Monte Carlo arithmetic on an ONNX graph.

Every floating-point result is multiplied by one plus a few units in the last place, drawn at random, and the
model is evaluated several times so. Where the draws disagree, the reference's own result is an accident of
its roundings: a comparison of nearly equal numbers, a cancellation, a rounding of a half. Where they agree,
nobody may differ. Parker, "Monte Carlo Arithmetic: Exploiting Randomness in Floating-Point Arithmetic", 1997.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]

DRAWS = 24

# A few units in the last place, which fused and reordered arithmetic and polynomials may cost.
_NOISE = {"float32": 2.0**-21, "float64": 2.0**-50, "float16": 2.0**-9}

# These choose, move or cut elements, whose value they leave as it is: all implementations agree to the bit.
_EXACT = frozenset((
    "Abs", "ArgMax", "ArgMin", "Cast", "Ceil", "Clip", "Compress", "Concat", "Constant",
    "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Identity", "Max", "MaxPool", "Min", "Neg", "NonZero", "Not", "OneHot", "Pad",
    "ReduceMax", "ReduceMin", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape", "Sign",
    "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu",
    "Unsqueeze", "Where",
))  # fmt: skip


def noisy_variants(
    model: onnx.ModelProto, values: Mapping[str, Any], every_use: bool, seed: int = 0
) -> Iterator[onnx.ModelProto]:
    """``DRAWS`` copies of a model, each with other noise.

    Args:
        model: without subgraphs.
        values: every value of one run by name.
        every_use: whether every use of a value sees it with noise of its own, as if it were computed anew.
        seed: of the noise.
    """
    generator = np.random.default_rng(seed)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= {name: np.shape(value) for name, value in values.items()}
    for _ in range(DRAWS):
        noisy = onnx.ModelProto()
        noisy.CopyFrom(model)
        del noisy.graph.node[:]
        for node in model.graph.node:
            sums = 1.0 if every_use else math.sqrt(_summed_terms(node, shapes))
            _append(noisy.graph, node, values, sums, every_use, generator)
        yield noisy


def instability(reference: Array, draws: list[Array]) -> Array:
    """By element, how far the draws are apart; infinite where only some are finite, zero where all agree."""
    values = np.stack([reference, *draws]).astype(np.float64)
    finite = np.isfinite(values)
    with np.errstate(all="ignore"):
        spread = np.where(finite, values, 0).max(axis=0) - np.where(finite, values, 0).min(axis=0)
    kinds = np.where(finite, 0, np.where(np.isnan(values), 1, np.sign(np.where(finite, 1, values)) * 2))
    return np.where((kinds == kinds[0]).all(axis=0), np.where(finite[0], spread, 0), np.inf)


def _append(
    graph: onnx.GraphProto,
    original: onnx.NodeProto,
    values: Mapping[str, Any],
    sums: float,
    every_use: bool,
    generator: np.random.Generator,
) -> None:
    """Adds a node; unless it is exact, with noise on what it reads or on what it gives."""
    node = onnx.NodeProto()
    node.CopyFrom(original)
    noisy = [] if node.op_type in _EXACT else _floats(node.input if every_use else node.output, values)
    prefix = f"{len(graph.node)}/"
    if every_use:
        graph.node.extend(_noise(graph, name, prefix + name, values[name], sums, generator) for name in noisy)
        node.input[:] = [prefix + name if name in noisy else name for name in node.input]
        graph.node.append(node)
    else:
        node.output[:] = [prefix + name if name in noisy else name for name in node.output]
        graph.node.append(node)
        graph.node.extend(_noise(graph, prefix + name, name, values[name], sums, generator) for name in noisy)


def _floats(names: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys(names) if np.asarray(values.get(name)).dtype.name in _NOISE]


def _summed_terms(node: onnx.NodeProto, known: Mapping[str, tuple[int, ...]]) -> float:
    """How many products or elements are summed up to one of the result; the error grows with its root."""
    shapes = [known.get(name, ()) for name in (*node.input, node.output[0])]
    if node.op_type in ("Conv", "ConvTranspose"):
        own_channels = shapes[1][1 if node.op_type == "ConvTranspose" else 0]
        return math.prod(shapes[1]) / own_channels
    if node.op_type in ("MatMul", "Gemm"):
        return max(math.sqrt(math.prod(shapes[0]) * math.prod(shapes[1]) / max(1, math.prod(shapes[-1]))), 1)
    if node.op_type.startswith("Reduce") or node.op_type == "GlobalAveragePool":
        return max(1, math.prod(shapes[0])) / max(1, math.prod(shapes[-1]))
    return 1


def _noise(
    graph: onnx.GraphProto,
    source: str,
    target: str,
    value: Array,
    sums: float,
    generator: np.random.Generator,
) -> onnx.NodeProto:
    """``target`` is ``source`` with noise, as much as of one operation times ``sums``."""
    scale, dtype = _NOISE[value.dtype.name] * sums, value.dtype
    factor = np.asarray(1 + scale * generator.uniform(-1, 1, np.shape(value)), dtype)
    graph.initializer.append(numpy_helper.from_array(factor, f"{target}/noise"))
    return helper.make_node("Mul", [source, f"{target}/noise"], [target])
