"""Quantized operators of com.microsoft: decoded, computed in float32, quantized again."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..node import Node
from ..registry import converts, find
from ..values import Value
from .matmul import product
from .quantization import centred, dequantize, quantize, quantized

_DOMAIN = "com.microsoft"

converts("QuantizeLinear", domain=_DOMAIN)(quantize)
converts("DequantizeLinear", domain=_DOMAIN)(dequantize)


def _decoded(node: Node, index: int) -> Expr:
    """The input at ``index`` as float32; its scale and its zero point follow it."""
    wide = centred(node, index, index + 2)
    scale = node.builder.cast(node.tensor(index + 1), "float32")
    real = node.builder.cast(wide, "float32")
    return node.emit(relax.op.multiply(*node.builder.broadcastable(real, scale)))


def _encoded(node: Node, real: Expr, scale_index: int) -> Expr:
    """A float32 tensor in the type of the first input; scale and zero point at ``scale_index``."""
    scale = node.builder.reshape(node.tensor(scale_index), ())
    zero = node.builder.reshape(node.tensor(scale_index + 1), ()) if node.has(scale_index + 1) else None
    dtype = node.dtype(scale_index + 1) if zero is not None else node.dtype(0)
    return quantized(node, node.builder.bound(real), scale, zero, dtype)


def standard(node: Node, op_type: str, inputs: Sequence[Value], opset: int = 13) -> list[Value]:
    """The results of a standard operator with this node's attributes."""
    other = node.as_operator(op_type, opset, inputs)
    converter = find("", op_type, opset)
    assert converter is not None, f"{op_type} is a standard operator"
    result = converter(other)
    return list(result) if isinstance(result, list | tuple) else [result]


@converts("QLinearAdd", "QLinearMul", domain=_DOMAIN)
def binary(node: Node) -> Expr:
    op = relax.op.add if node.op_type == "QLinearAdd" else relax.op.multiply
    operands = node.builder.broadcastable(_decoded(node, 0), _decoded(node, 3))
    return _encoded(node, node.emit(op(*operands)), 6)


_BY_STANDARD = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}


@converts(*_BY_STANDARD, domain=_DOMAIN)
def unary(node: Node) -> Expr:
    """As the standard operator; pictures may have their channels last."""
    real = _decoded(node, 0)
    last = bool(node.integer("channels_last", 0))
    if last:
        real = node.emit(relax.op.permute_dims(real, _channels_first(node.rank(0))))
    opset = node.integer("opset", 13)
    result = node.builder.tensor(standard(node, _BY_STANDARD[node.op_type], [real], opset)[0])
    if last:
        result = node.emit(relax.op.permute_dims(node.builder.bound(result), _channels_last(node.rank(0))))
    return _encoded(node, result, 3)


def _channels_first(rank: int) -> list[int]:
    return [0, rank - 1, *range(1, rank - 1)]


def _channels_last(rank: int) -> list[int]:
    return [0, *range(2, rank), 1]


@converts("NhwcMaxPool", domain=_DOMAIN)
def channels_last_max_pool(node: Node) -> Expr:
    rank = node.rank(0)
    first = node.emit(relax.op.permute_dims(node.tensor(0), _channels_first(rank)))
    pooled = node.builder.bound(node.builder.tensor(standard(node, "MaxPool", [first])[0]))
    return relax.op.permute_dims(pooled, _channels_last(rank))


@converts("QLinearConcat", domain=_DOMAIN)
def concatenation(node: Node) -> Expr:
    """Inputs: the result's scale and zero point, then each tensor with its own."""
    parts: list[Value] = [_decoded(node, index) for index in range(2, len(node.inputs), 3)]
    joined = node.builder.tensor(standard(node, "Concat", parts)[0])
    return _encoded(node, joined, 0)


@converts("QLinearWhere", domain=_DOMAIN)
def where(node: Node) -> Expr:
    """Inputs: the condition, then either operand with scale and zero point, then the result's."""
    chosen = standard(node, "Where", [node.value(0), _decoded(node, 1), _decoded(node, 4)])[0]
    return _encoded(node, node.builder.tensor(chosen), 7)


@converts("QGemm", domain=_DOMAIN)
def gemm(node: Node) -> Expr:
    """alpha A B + C; C is in units of both scales. The result is float32 where it has no scale."""
    operands = []
    for index, name in ((0, "transA"), (3, "transB")):
        wide = centred(node, index, index + 2)
        operands.append(node.emit(relax.op.permute_dims(wide, [1, 0])) if node.integer(name, 0) else wide)
    total = node.builder.bound(product(node.builder, *operands))
    if node.has(6):
        total = node.emit(relax.op.add(*node.builder.broadcastable(total, node.tensor(6))))
    real = node.builder.cast(total, "float32")
    for index in (1, 4):
        real = node.emit(relax.op.multiply(*node.builder.broadcastable(real, node.tensor(index))))
    alpha = node.number("alpha", 1.0)
    if alpha != 1.0:
        real = node.emit(relax.op.multiply(real, node.builder.constant(alpha, "float32")))
    return _encoded(node, real, 7) if node.has(7) else real


@converts("DynamicQuantizeLSTM", domain=_DOMAIN)
def lstm(node: Node) -> list[Value]:
    """An LSTM with quantized weights, [directions, input, gates]. Activations stay in float32."""
    weights = [_weights(node, index, scale) for index, scale in ((1, 8), (2, 10))]
    return standard(node, "LSTM", [node.value(0), *weights, *node.inputs[3:8]])


def _weights(node: Node, index: int, scale_index: int) -> Expr:
    """Decoded and turned as the standard operator wants them; a scale for each direction, or each column."""
    wide = node.builder.cast(node.tensor(index), "float32")
    scale = _row(node, node.tensor(scale_index))
    if node.has(scale_index + 1):
        zero = _row(node, node.builder.cast(node.tensor(scale_index + 1), "float32"))
        wide = node.emit(relax.op.subtract(wide, zero))
    real = node.emit(relax.op.multiply(wide, scale))
    return node.emit(relax.op.permute_dims(real, [0, 2, 1]))


def _row(node: Node, parameter: Expr) -> Expr:
    known = node.builder.shape(parameter)
    if len(known) not in (0, 1, 2):
        raise InvalidModelError("a scale has at most two dimensions")
    columns = known[1] if len(known) == 2 else 1
    directions = known[0] if known else 1
    return node.builder.reshape(parameter, [directions, 1, columns])
