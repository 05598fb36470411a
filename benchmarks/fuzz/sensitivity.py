"""How much a model's results owe to rounding: Monte Carlo arithmetic on an ONNX graph.

Every floating-point result is multiplied by one plus a few units in the last place, drawn at random, and the
model is evaluated several times so. Where the draws disagree, the reference's own result is an accident of
its roundings: a comparison of nearly equal numbers, a cancellation, a rounding of a half. Where they agree,
nobody may differ. Parker, "Monte Carlo Arithmetic: Exploiting Randomness in Floating-Point Arithmetic", 1997.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]

DRAWS = 8

# A few units in the last place, which fused and reordered arithmetic and polynomials may cost.
_NOISE = {TensorProto.FLOAT: 2.0**-21, TensorProto.DOUBLE: 2.0**-50, TensorProto.FLOAT16: 2.0**-9}

# These choose, move or cut elements, whose value they leave as it is: all implementations agree to the bit.
_EXACT = frozenset((
    "Abs", "ArgMax", "ArgMin", "Cast", "Ceil", "Clip", "Compress", "Concat", "Constant",
    "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Floor", "Gather", "GatherElements",
    "GatherND", "Identity", "Max", "MaxPool", "Min", "Neg", "NonZero", "Not", "OneHot", "Pad",
    "ReduceMax", "ReduceMin", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Shape", "Sign",
    "Size", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu",
    "Unsqueeze", "Where",
))  # fmt: skip


def noisy_variants(model: onnx.ModelProto, seed: int = 0) -> Iterator[onnx.ModelProto]:
    """``DRAWS`` copies of a model, each with other noise."""
    types = _element_types(model)
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS):
        yield _noisy(model, types, generator)


def instability(reference: Array, draws: list[Array]) -> Array:
    """By element, how far the draws are apart; infinite where only some are finite, zero where all agree."""
    values = np.stack([reference, *draws]).astype(np.float64)
    finite = np.isfinite(values)
    with np.errstate(all="ignore"):
        spread = np.where(finite, values, 0).max(axis=0) - np.where(finite, values, 0).min(axis=0)
    kinds = np.where(finite, 0, np.where(np.isnan(values), 1, np.sign(np.where(finite, 1, values)) * 2))
    return np.where((kinds == kinds[0]).all(axis=0), np.where(finite[0], spread, 0), np.inf)


def _element_types(model: onnx.ModelProto) -> Mapping[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}


def _noisy(
    model: onnx.ModelProto, types: Mapping[str, int], generator: np.random.Generator
) -> onnx.ModelProto:
    noisy = onnx.ModelProto()
    noisy.CopyFrom(model)
    del noisy.graph.node[:]
    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        noisy.graph.node.append(node)
        if node.op_type in _EXACT:
            continue
        for position, name in enumerate(original.output):
            if (scale := _NOISE.get(types.get(name, 0))) is not None:
                noisy.graph.node[-1].output[position] = exact = f"{name}/exact"
                factor = helper.make_tensor(
                    f"{name}/noise", types[name], (), [1 + scale * generator.uniform(-1, 1)]
                )
                noisy.graph.initializer.append(factor)
                noisy.graph.node.append(helper.make_node("Mul", [exact, factor.name], [name]))
    return noisy
