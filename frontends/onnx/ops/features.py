"""ai.onnx.ml: what prepares features, on numbers: scalers, encoders, extractors."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError, UnsupportedOperatorError
from ..constant_tensors import constant_tensor
from ..node import Node
from ..registry import converts
from ..tabulate import tabulate
from ..values import Array
from .elementwise import map_elements

_DOMAIN = "ai.onnx.ml"


@converts("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(node: Node) -> Expr:
    indices = node.builder.reshape(node.tensor(1), [node.extents.product(node.shape(1))])
    taken = node.emit(relax.op.take(node.tensor(0), indices, node.rank(0) - 1, "clip"))
    return node.builder.reshape(taken, [1, *node.builder.shape(taken)]) if node.rank(0) == 1 else taken


@converts("Binarizer", domain=_DOMAIN)
def binarizer(node: Node) -> Expr:
    threshold, dtype = node.number("threshold", 0.0), node.dtype(0)
    above = node.emit(relax.op.greater(node.tensor(0), node.builder.constant(threshold, dtype)))
    return node.builder.cast(above, dtype)


@converts("Scaler", domain=_DOMAIN)
def scaler(node: Node) -> Expr:
    x = node.builder.cast(node.tensor(0), "float32")
    offset = node.builder.constant(np.array(node.numbers("offset"), np.float32))
    scale = node.builder.constant(np.array(node.numbers("scale"), np.float32))
    return relax.op.multiply(node.emit(relax.op.subtract(x, offset)), scale)


@converts("Normalizer", domain=_DOMAIN)
def normalizer(node: Node) -> Expr:
    """Rows divided by their largest, absolute or Euclidean size; rows of zeros stay."""
    x = node.builder.cast(node.tensor(0), "float32")
    norm = node.text("norm", "MAX")
    if norm == "L2":
        square = node.emit(relax.op.multiply(x, x))
        size = node.emit(relax.op.sqrt(node.emit(relax.op.sum(square, [-1], keepdims=True))))
    elif norm == "L1":
        size = node.emit(relax.op.sum(node.emit(relax.op.abs(x)), [-1], keepdims=True))
    else:
        size = node.emit(relax.op.max(x, [-1], keepdims=True))

    def divide(value: Any, length: Any) -> Expr:
        zero = tirx.const(0, "float32")
        return tirx.Select(length == zero, value, value / length)

    return map_elements(node, divide, x, size, name="normalizer")


@converts("Imputer", domain=_DOMAIN)
def imputer(node: Node) -> Expr:
    dtype = node.dtype(0)
    kind = "floats" if dtype.startswith("float") else "int64s"
    values = np.array(node.attribute(f"imputed_value_{kind}"), dtype)
    replaced = node.attribute(f"replaced_value_{kind[:-1]}", 0)
    missing = tirx.const(float(replaced) if kind == "floats" else int(replaced), dtype)

    def replace(value: Any, other: Any) -> Expr:
        hit = tirx.isnan(value) if np.isnan(replaced) else value == missing
        return tirx.Select(hit, other, value)

    return map_elements(node, replace, node.tensor(0), node.builder.constant(values), name="imputer")


@converts("LabelEncoder", domain=_DOMAIN)
def label_encoder(node: Node) -> Expr:
    keys, values, default = _labels(node)
    dtype = str(values.dtype)
    pairs = list(zip(keys.tolist(), values.tolist(), strict=True))

    def encode(value: Any) -> Expr:
        result = tirx.const(default, dtype)
        for key, label in reversed(pairs):
            unknown = isinstance(key, float) and np.isnan(key)
            hit = tirx.isnan(value) if unknown else value == tirx.const(key, value.ty.dtype)
            result = tirx.Select(hit, tirx.const(label, dtype), result)
        return result

    return map_elements(node, encode, node.tensor(0), name="label_encoder")


def _labels(node: Node) -> tuple[Array, Array, Any]:
    """Keys, values and the default. Strings are refused."""
    sides = []
    for side in ("keys", "values"):
        found = [kind for kind in ("int64s", "floats", "tensor") if node.has_attribute(f"{side}_{kind}")]
        if not found:
            raise UnsupportedOperatorError(f"{node.label}: strings are not supported")
        raw = node.attribute(f"{side}_{found[0]}")
        kinds = {"int64s": np.int64, "floats": np.float32}
        sides.append(constant_tensor(raw) if found[0] == "tensor" else np.array(raw, kinds[found[0]]))
    if any(array.dtype.kind not in "iuf" for array in sides):
        raise UnsupportedOperatorError(f"{node.label}: strings are not supported")
    floating = sides[1].dtype.kind == "f"
    default = node.attribute("default_float" if floating else "default_int64", -0.0 if floating else -1)
    if node.has_attribute("default_tensor"):
        default = constant_tensor(node.attribute("default_tensor")).reshape(-1)[0].item()
    return sides[0].reshape(-1), sides[1].reshape(-1), default


@converts("OneHotEncoder", domain=_DOMAIN)
def one_hot_encoder(node: Node) -> Expr:
    """A one where the category is; zeros for a number that is none, also where an error is asked for."""
    if not node.has_attribute("cats_int64s"):
        raise UnsupportedOperatorError(f"{node.label}: strings are not supported")
    dtype = node.dtype(0)
    kind = dtype if dtype.startswith("float") else "int64"
    x = node.builder.cast(node.tensor(0), kind)
    column = node.builder.reshape(x, [*node.shape(0), 1])
    categories = node.builder.constant(np.array(node.integers("cats_int64s")), kind)
    return relax.op.astype(node.emit(relax.op.equal(column, categories)), "float32")


@converts("FeatureVectorizer", domain=_DOMAIN)
def feature_vectorizer(node: Node) -> Expr:
    """The inputs' columns side by side, as many of each as is said: missing ones are zero."""
    wanted = node.integers("inputdimensions")
    parts = [
        _columns(node, place, width) for place, width in zip(range(len(node.inputs)), wanted, strict=True)
    ]
    return relax.op.concat(parts, 1)


def _columns(node: Node, place: int, width: int) -> Expr:
    if node.rank(place) not in (1, 2):
        raise InvalidModelError(f"input {place} has {node.rank(place)} axes, where there may be 1 or 2")
    rows, *rest = node.shape(place)
    given = rest[0] if rest else 1
    x = node.builder.reshape(node.builder.cast(node.tensor(place), "float32"), [rows, given])

    def cut(data: te.Tensor) -> te.Tensor:
        def element(row: Any, column: Any) -> Expr:
            last = data.shape[1] - 1
            value = data(row, tirx.min(column, last))
            return tirx.Select(column <= last, value, tirx.const(0, "float32"))

        return tabulate((rows, width), element, name="columns")

    return x if node.extents.equal(given, width) else node.te(cut, x, name="columns")
