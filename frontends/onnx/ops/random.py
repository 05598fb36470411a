"""Operators that draw random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ..extents import Extent, as_expression
from ..mersenne_twister import normal, seed_of, uniform
from ..node import Node
from ..registry import converts
from ..tabulate import tabulate
from ..values import Value, dtype_name


@converts("RandomUniform", "RandomNormal")
def random_of_shape(node: Node) -> Expr:
    return _random(node, node.integers("shape"), dtype_name(node.integer("dtype", 1)))


@converts("RandomUniformLike", "RandomNormalLike")
def random_like(node: Node) -> Expr:
    dtype = dtype_name(node.integer("dtype")) if node.has_attribute("dtype") else node.dtype(0)
    return _random(node, node.shape(0), dtype)


def _random(node: Node, shape: Sequence[Extent], dtype: str) -> Expr:
    count = node.extents.product(shape)
    if "Normal" in node.op_type:
        drawn = normal(node, count, seed_of(node))
        scale, offset = node.number("scale", 1.0), node.number("mean", 0.0)
    else:
        drawn = uniform(node, count, seed_of(node))
        low, high = node.number("low", 0.0), node.number("high", 1.0)
        scale, offset = high - low, low
    scaled = node.emit(relax.op.multiply(drawn, node.builder.constant(scale, "float64")))
    moved = node.emit(relax.op.add(scaled, node.builder.constant(offset, "float64")))
    return node.builder.cast(node.builder.reshape(moved, shape), dtype)


@converts("Bernoulli")
def bernoulli(node: Node) -> Expr:
    """One where a uniform number lies below the element."""
    dtype = dtype_name(node.integer("dtype")) if node.has_attribute("dtype") else node.dtype(0)
    shape = node.shape(0)
    drawn = node.builder.reshape(uniform(node, node.extents.product(shape), seed_of(node)), shape)
    chance = node.builder.cast(node.tensor(0), "float64")
    return node.builder.cast(node.emit(relax.op.less(drawn, chance)), dtype)


@converts("Multinomial")
def multinomial(node: Node) -> Expr:
    """Classes drawn by their unnormalised log probabilities: [batch, sample_size]."""
    batch, classes = node.shape(0)
    samples = node.integer("sample_size", 1)
    chances = node.emit(relax.op.nn.softmax(node.builder.cast(node.tensor(0), "float64"), -1))
    drawn = node.builder.reshape(
        uniform(node, node.extents.product([batch, samples]), seed_of(node)), [batch, samples]
    )
    dtype = dtype_name(node.integer("dtype", 6))

    def compute(chance: te.Tensor, draw: te.Tensor) -> te.Tensor:
        before = te.reduce_axis((0, as_expression(classes)), name="before")

        def running(b: Any, c: Any) -> Expr:
            return te.sum(tirx.Select(before <= c, chance(b, before), tirx.const(0.0, "float64")), before)

        sums = tabulate((batch, classes), running, name="running")
        c = te.reduce_axis((0, as_expression(classes) - 1), name="class")
        one, zero = tirx.const(1, dtype), tirx.const(0, dtype)
        return tabulate(
            (batch, samples),
            lambda b, s: te.sum(tirx.Select(draw(b, s) >= sums(b, c), one, zero), c),
            name="multinomial",
        )

    return node.te(compute, chances, drawn, name="multinomial")


@converts("Dropout")
def dropout(node: Node) -> list[Value]:
    """At inference the data passes unchanged, and the mask keeps everything."""
    inactive = node.op_type != "Dropout" or not node.has(2)
    training = node.value(2)
    if inactive or (isinstance(training, np.ndarray) and not training.any()):
        results: list[Value] = [node.value(0)]
        if node.wants(1):
            shape = relax.ShapeExpr([as_expression(extent) for extent in node.shape(0)])
            results.append(relax.op.full(shape, node.builder.constant(True, "bool"), "bool"))
        return results
    return list(_training_dropout(node))


def _training_dropout(node: Node) -> list[Expr]:
    shape, dtype = node.shape(0), node.dtype(0)
    drawn = node.builder.reshape(uniform(node, node.extents.product(shape), seed_of(node)), shape)
    ratio = node.tensor(1) if node.has(1) else node.builder.constant(0.5, "float64")
    ratio = node.builder.reshape(node.builder.cast(ratio, "float64"), ())
    active = node.builder.reshape(node.tensor(2), ())

    def compute(x: te.Tensor, draw: te.Tensor, share: te.Tensor, on: te.Tensor) -> list[te.Tensor]:
        def kept(*i: Expr) -> Expr:
            return tirx.any(tirx.Not(on()), draw(*i) >= share())

        def value(*i: Expr) -> Expr:
            scale = tirx.const(1, "float64") / (tirx.const(1, "float64") - share())
            scaled = (x(*i).astype("float64") * scale).astype(dtype)
            return tirx.Select(on(), tirx.Select(kept(*i), scaled, tirx.const(0, dtype)), x(*i))

        return [tabulate(shape, value, name="dropout"), tabulate(shape, kept, name="dropout_mask")]

    results: list[Expr] = node.te(compute, node.tensor(0), drawn, ratio, active, name="dropout")
    return results
