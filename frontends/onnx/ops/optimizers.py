"""Steps of training: Momentum, Adam, Adagrad. Inputs: rate, count of steps, then tensors by kind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tvm import te, tirx
from tvm.ir import Expr

from ..node import Node
from ..registry import converts
from ..tabulate import tabulate

_DOMAIN = "ai.onnx.preview.training"

Step = Callable[..., list[Any]]


def _stepped(node: Node, kinds: int, step: Step) -> list[Expr]:
    """Applies ``step(rate, count, *elements)`` to each group of tensors; new values come kind by kind."""
    groups = (len(node.inputs) - 2) // kinds
    builder = node.builder
    rate = builder.reshape(node.tensor(0), ())
    count = builder.reshape(node.tensor(1), ())
    columns = []
    for group in range(groups):
        tensors = [node.tensor(2 + kind * groups + group) for kind in range(kinds)]

        columns.append(node.te(partial(_tables, step), rate, count, *tensors, name="training_step"))
    return [column[kind] for kind in range(len(columns[0])) for column in columns]


def _tables(step: Step, rate: te.Tensor, count: te.Tensor, *operands: te.Tensor) -> list[te.Tensor]:
    """A tensor for each value that a step gives."""

    def value(place: int, *index: Any) -> Expr:
        return step(rate(), count(), *(operand(*index) for operand in operands))[place]

    sample = step(rate(), count(), *(operand(*[0] * len(operand.shape)) for operand in operands))
    return [_table(operands[0], value, place) for place in range(len(sample))]


def _table(like: te.Tensor, value: Callable[..., Expr], place: int) -> te.Tensor:
    return tabulate(like.shape, lambda *index: value(place, *index), name="training_step")


def _c(value: float, like: Any) -> Expr:
    return tirx.const(value, like.ty.dtype)


@converts("Momentum", domain=_DOMAIN)
def momentum(node: Node) -> list[Expr]:
    alpha, beta = node.number("alpha"), node.number("beta")
    decay, nesterov = node.number("norm_coefficient"), node.text("mode") == "nesterov"

    def step(rate: Any, count: Any, x: Any, gradient: Any, velocity: Any) -> list[Any]:
        g = _c(decay, x) * x + gradient
        share = tirx.Select(count > 0, _c(beta, x), _c(1, x))
        new = _c(alpha, x) * velocity + share * g
        direction = g + _c(alpha, x) * new if nesterov else new
        return [x - rate * direction, new]

    return _stepped(node, 3, step)


@converts("Adagrad", domain=_DOMAIN)
def adagrad(node: Node) -> list[Expr]:
    decay_factor, epsilon = node.number("decay_factor", 0.0), node.number("epsilon", 1e-6)
    decay = node.number("norm_coefficient", 0.0)

    def step(rate: Any, count: Any, x: Any, gradient: Any, squares: Any) -> list[Any]:
        slowed = rate / (_c(1, x) + count.astype(x.ty.dtype) * _c(decay_factor, x))
        g = _c(decay, x) * x + gradient
        new = squares + g * g
        return [x - slowed * g / (tirx.sqrt(new) + _c(epsilon, x)), new]

    return _stepped(node, 3, step)


@converts("Adam", domain=_DOMAIN)
def adam(node: Node) -> list[Expr]:
    alpha, beta = node.number("alpha", 0.9), node.number("beta", 0.999)
    epsilon, decay = node.number("epsilon", 1e-6), node.number("norm_coefficient", 0.0)
    decay_after = node.number("norm_coefficient_post", 0.0)

    def step(rate: Any, count: Any, x: Any, gradient: Any, mean: Any, square: Any) -> list[Any]:
        one, dtype = _c(1, x), x.ty.dtype
        g = _c(decay, x) * x + gradient
        new_mean = _c(alpha, x) * mean + (one - _c(alpha, x)) * g
        new_square = _c(beta, x) * square + (one - _c(beta, x)) * g * g
        t = count.astype(dtype)
        corrected = rate * tirx.sqrt(one - tirx.pow(_c(beta, x), t)) / (one - tirx.pow(_c(alpha, x), t))
        slowed = tirx.Select(count > 0, corrected, rate)
        new = x - slowed * new_mean / (tirx.sqrt(new_square) + _c(epsilon, x))
        return [(one - _c(decay_after, x)) * new, new_mean, new_square]

    return _stepped(node, 4, step)
