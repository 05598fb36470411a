"""Fused operators of the domain com.microsoft, which ONNX Runtime's optimizers write into files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..extents import as_expression
from ..node import Node
from ..precision import widened
from ..registry import converts
from ..values import Value
from .activation import gelu_by_tanh
from .convolution import convolution
from .matmul import gemm, product
from .quantization import dynamically_quantized

_DOMAIN = "com.microsoft"


@converts("FusedMatMul", "TransposeMatMul", domain=_DOMAIN)
def fused_matmul(node: Node) -> Expr:
    """alpha * A' B', either one transposed in its last two axes first."""
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        raise InvalidModelError("transBatchA and transBatchB are not supported")
    operands = []
    for index, name in enumerate(("transA", "transB")):
        tensor, rank = node.tensor(index), node.rank(index)
        if node.integer(name, 0) and rank > 1:
            tensor = node.emit(relax.op.permute_dims(tensor, [*range(rank - 2), rank - 1, rank - 2]))
        operands.append(tensor)
    total = node.builder.bound(product(node.builder, *operands))
    alpha = node.number("alpha", 1.0)
    if alpha == 1.0:
        return total
    return relax.op.multiply(total, node.builder.constant(alpha, node.dtype(0)))


@converts("Gelu", "BiasGelu", domain=_DOMAIN)
def gelu(node: Node) -> Expr:
    return widened(node.builder, relax.op.nn.gelu, _biased(node, 1))


@converts("FastGelu", domain=_DOMAIN)
def fast_gelu(node: Node) -> Expr:
    return widened(node.builder, gelu_by_tanh(node), _biased(node, 1))


@converts("QuickGelu", domain=_DOMAIN)
def quick_gelu(node: Node) -> Expr:
    """x * sigmoid(alpha x)."""
    alpha = node.number("alpha", 1.702)

    def compute(x: Expr) -> Expr:
        scaled = node.emit(relax.op.multiply(x, node.builder.constant(alpha, node.builder.dtype(x))))
        return relax.op.multiply(x, node.emit(relax.op.sigmoid(scaled)))

    return widened(node.builder, compute, node.tensor(0))


def _biased(node: Node, index: int) -> Expr:
    if not node.has(index):
        return node.tensor(0)
    return node.emit(relax.op.add(*node.builder.broadcastable(node.tensor(0), node.tensor(index))))


@converts("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=_DOMAIN)
def skip_layer_normalization(node: Node) -> list[Value]:
    """Normalisation of the sum of input, skip and bias; the sum itself is the fourth output."""
    simple = node.op_type == "SkipSimplifiedLayerNormalization"
    bias_index = 3 if simple else 4
    total = node.emit(relax.op.add(*node.builder.broadcastable(node.tensor(0), node.tensor(1))))
    if node.has(bias_index):
        total = node.emit(relax.op.add(total, node.tensor(bias_index)))
    epsilon = node.number("epsilon", 1e-12)
    shape = [node.shape(0)[-1]]

    def compute(x: Expr) -> Expr:
        dtype = node.builder.dtype(x)
        scale = node.builder.cast(node.tensor(2), dtype)
        if simple:
            return relax.op.nn.rms_norm(x, scale, [-1], epsilon)
        shift = node.tensor(3) if node.has(3) else node.builder.constant(np.zeros(int(shape[0]), np.float32))
        return relax.op.nn.layer_norm(x, scale, node.builder.cast(shift, dtype), [-1], epsilon)

    normal = widened(node.builder, compute, total)
    return [normal, None, None, total][: len(node.outputs)]


@converts("SimplifiedLayerNormalization")
@converts("SimplifiedLayerNormalization", domain=_DOMAIN)
def simplified_layer_normalization(node: Node) -> list[Value]:
    """By the root of the mean square, whose inverse is the second output; also met in the standard domain."""
    axis = node.axis("axis", -1, node.rank(0))
    axes = list(range(axis, node.rank(0)))
    epsilon = node.number("epsilon", 1e-5)

    def compute(x: Expr) -> Expr:
        return relax.op.nn.rms_norm(
            x, node.builder.cast(node.tensor(1), node.builder.dtype(x)), axes, epsilon
        )

    normal = widened(node.builder, compute, node.tensor(0))
    return [normal, _inverse_root(node, axes, epsilon)] if node.wants(1) else [normal]


def _inverse_root(node: Node, axes: list[int], epsilon: float) -> Expr:
    x = node.builder.cast(node.tensor(0), "float32")
    mean = node.emit(relax.op.mean(node.emit(relax.op.multiply(x, x)), axes, True))
    return relax.op.rsqrt(node.emit(relax.op.add(mean, node.builder.constant(epsilon, "float32"))))


@converts("EmbedLayerNormalization", domain=_DOMAIN)
def embed_layer_normalization(node: Node) -> list[Value]:
    """The sum of a word's, its position's and its segment's embedding, normalised.

    Inputs: input_ids, segment_ids, three tables, gamma, beta, mask, position_ids. Outputs: the result, how
    many words the mask keeps, the sum.
    """
    rows = node.shape(0)[1]
    total = node.emit(relax.op.take(node.tensor(2), node.tensor(0), 0, mode="clip"))
    if node.has(8):
        places = node.emit(relax.op.take(node.tensor(3), node.tensor(8), 0, mode="clip"))
    else:
        places = node.emit(relax.op.strided_slice(node.tensor(3), [0], [0], [as_expression(rows)]))
    total = node.emit(relax.op.add(*node.builder.broadcastable(total, places)))
    if node.has(1):
        segments = node.emit(relax.op.take(node.tensor(4), node.tensor(1), 0, mode="clip"))
        total = node.emit(relax.op.add(total, segments))
    epsilon = node.number("epsilon", 1e-12)
    normal = node.emit(relax.op.nn.layer_norm(total, node.tensor(5), node.tensor(6), [-1], epsilon))
    return [normal, _kept(node), total][: len(node.outputs)]


def _kept(node: Node) -> Expr:
    if not node.has(7):
        shape = relax.ShapeExpr([as_expression(node.shape(0)[0])])
        return node.emit(relax.op.zeros(shape, "int32"))
    one = node.builder.constant(1, node.dtype(7))
    seen = node.builder.cast(node.emit(relax.op.equal(node.tensor(7), one)), "int32")
    return node.emit(relax.op.sum(seen, [1]))


@converts("FusedConv", domain=_DOMAIN)
def fused_convolution(node: Node) -> Expr:
    """A convolution, a tensor added to it, an activation."""
    result = node.builder.bound(convolution(node))
    if node.has(3):
        result = node.emit(relax.op.add(result, node.tensor(3)))
    parameters = node.numbers("activation_params", [])
    return _activated(node, result, parameters)


@converts("FusedGemm", domain=_DOMAIN)
def fused_gemm(node: Node) -> Expr:
    """A Gemm and an activation."""
    names = [f"activation_{name}" for name in ("alpha", "beta", "gamma")]
    parameters = [node.number(name) for name in names if node.has_attribute(name)]
    return _activated(node, node.builder.bound(gemm(node)), parameters)


def _activated(node: Node, x: Expr, parameters: Sequence[float]) -> Expr:
    activations: dict[str, Any] = {
        "": lambda x: x,
        "Relu": relax.op.nn.relu,
        "Tanh": relax.op.tanh,
        "Sigmoid": relax.op.sigmoid,
        "LeakyRelu": lambda x: relax.op.nn.leakyrelu(x, parameters[0] if parameters else 0.01),
        "Clip": lambda x: relax.op.clip(x, *parameters[:2]),
        "HardSigmoid": lambda x: _line(node, x, *parameters[:2]),
    }
    name = node.text("activation", "")
    if name not in activations:
        raise InvalidModelError(f"the activation '{name}' is not supported")
    fused: Expr = activations[name](x)
    return fused


def _line(node: Node, x: Expr, alpha: float = 0.2, beta: float = 0.5) -> Expr:
    """alpha x + beta, between 0 and 1."""
    sloped = node.emit(relax.op.multiply(x, node.builder.constant(alpha, "float32")))
    return relax.op.clip(node.emit(relax.op.add(sloped, node.builder.constant(beta, "float32"))), 0, 1)


@converts("MatMulIntegerToFloat", domain=_DOMAIN)
def matmul_integer_to_float(node: Node) -> Expr:
    """(A - a0)(B - b0) times both scales, plus a bias."""
    return _scaled_product(
        node,
        _centred(node, node.tensor(0), node.tensor(4) if node.has(4) else None),
        _centred(node, node.tensor(1), node.tensor(5) if node.has(5) else None),
        [node.tensor(2), node.tensor(3)],
        6,
    )


@converts("DynamicQuantizeMatMul", domain=_DOMAIN)
def dynamic_quantize_matmul(node: Node) -> Expr:
    """As MatMulIntegerToFloat, the first operand quantized over its own range."""
    data, scale, zero = (node.builder.bound(part) for part in dynamically_quantized(node))
    return _scaled_product(
        node,
        _centred(node, data, zero),
        _centred(node, node.tensor(1), node.tensor(3) if node.has(3) else None),
        [scale, node.tensor(2)],
        4,
    )


def _centred(node: Node, data: Expr, zero: Expr | None) -> Expr:
    wide = node.builder.cast(data, "int32")
    if zero is None:
        return wide
    offset = node.builder.cast(zero, "int32")
    return node.emit(relax.op.subtract(*node.builder.broadcastable(wide, offset)))


def _scaled_product(node: Node, a: Expr, b: Expr, scales: list[Expr], bias_index: int) -> Expr:
    total = node.builder.cast(node.builder.bound(product(node.builder, a, b)), "float32")
    for scale in scales:
        total = node.emit(relax.op.multiply(*node.builder.broadcastable(total, scale)))
    if node.has(bias_index):
        total = node.emit(relax.op.add(total, node.tensor(bias_index)))
    return total


@converts("MatMulNBits", domain=_DOMAIN)
def matmul_n_bits(node: Node) -> Expr:
    """A product with a constant weight of few bits, quantized in blocks; decoded when compiling."""
    if node.has(4) or node.integer("bits", 4) not in (2, 4, 8):
        raise InvalidModelError("g_idx and widths other than 2, 4 and 8 bits are not supported")
    rows, columns = node.integer("N"), node.integer("K")
    bits, block = node.integer("bits", 4), node.integer("block_size")
    blocks = math.ceil(columns / block)
    levels = _unpacked(node.constant(1).reshape(-1), bits).reshape(rows, -1)[:, : blocks * block]
    scale = node.constant(2).reshape(rows, blocks).astype(np.float32)
    zero = np.full((rows, blocks), 1 << (bits - 1), np.float32)
    if node.has(3):
        given = node.constant(3)
        packed = given.dtype == np.uint8
        zero = _unpacked(given.reshape(rows, -1), bits)[:, :blocks] if packed else given.reshape(rows, blocks)
        zero = zero.astype(np.float32)
    real = (levels.reshape(rows, blocks, block) - zero[..., None]) * scale[..., None]
    weight = np.ascontiguousarray(real.reshape(rows, -1)[:, :columns].T.astype(node.dtype(0)))
    total = node.builder.bound(product(node.builder, node.tensor(0), node.builder.constant(weight)))
    return node.emit(relax.op.add(total, node.tensor(5))) if node.has(5) else total


def _unpacked(packed: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Numbers of few bits, the lowest bits of a byte first."""
    shifts = np.arange(0, 8, bits)
    parts = (packed[..., None] >> shifts) & ((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)
