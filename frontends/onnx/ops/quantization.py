"""Quantized tensors: conversion, and products of integers.

Integers saturate and ties round to even, as the specification of QuantizeLinear says.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr

from ....runtime.errors import InvalidModelError
from ..narrow_types import encoded, is_narrow_float
from ..node import Node, normalize_axis
from ..registry import converts
from ..tabulate import tabulate
from ..values import NarrowTensor, Value, dtype_name, is_narrow, numpy_dtype, storage_dtype
from .convolution import convolve, explicit_pads
from .matmul import product
from .padding import pad_constant

_INTEGERS = ("int8", "uint8", "int16", "uint16")


@converts("QuantizeLinear")
def quantize(node: Node) -> Value:
    target = node.dtype(2) if node.has(2) else "uint8"
    if not node.has(2) and node.integer("output_dtype", 0):
        target = dtype_name(node.integer("output_dtype"))
    x = node.builder.cast(node.tensor(0), "float32")
    scale = node.builder.cast(node.tensor(1), "float32")
    zero = node.tensor(2) if node.has(2) else None
    if is_narrow_float(target):
        return _quantized_float(node, x, scale, target)
    if target not in _INTEGERS and not is_narrow(target):
        raise InvalidModelError(f"quantization to {target} is not supported")
    levels = quantized(node, x, scale, zero, target)
    return NarrowTensor(node.builder.bound(levels), target) if is_narrow(target) else levels


def _quantized_float(node: Node, x: Expr, scale: Expr, target: str) -> Value:
    """To a narrow float, whose zero point is zero."""
    place = _parameter_place(node, x, scale)

    def compute(data: te.Tensor, step: te.Tensor) -> te.Tensor:
        return tabulate(data.shape, lambda *i: data(*i) / step(*place(i)), name="scaled")

    return encoded(
        node.builder, node.te(compute, x, scale, name="scaled"), target, bool(node.integer("saturate", 1))
    )


def quantized(node: Node, x: Expr, scale: Expr, zero: Expr | None, target: str) -> Expr:
    """saturate(round(x / scale) + zero), with the node's axis and block size; narrow integers in bytes."""
    place = _parameter_place(node, x, scale)
    limits: Any = ml_dtypes.iinfo(numpy_dtype(target))  # type: ignore[no-untyped-call]
    low, high = (tirx.const(int(v), "float32") for v in (limits.min, limits.max))
    held = storage_dtype(target)

    def compute(data: te.Tensor, step: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            level = tirx.nearbyint(data(*i) / step(*place(i)))
            if offset:
                level = level + offset[0](*place(i)).astype("float32")
            return tirx.max(tirx.min(level, high), low).astype(held)

        return tabulate(data.shape, element, name="quantize")

    offsets = [] if zero is None else [node.builder.reshape(zero, node.builder.shape(scale))]
    return node.te(compute, x, scale, *offsets, name="quantize")


@converts("DequantizeLinear")
def dequantize(node: Node) -> Expr:
    source, result = node.dtype(0), node.dtype(1)
    if source not in (*_INTEGERS, "int32") and not is_narrow(source):
        raise InvalidModelError(f"dequantization of {source} is not supported")
    if node.integer("output_dtype", 0):
        result = dtype_name(node.integer("output_dtype"))
    x, scale = node.builder.bound(node.tensor(0)), node.builder.cast(node.tensor(1), "float32")
    place = _parameter_place(node, x, scale)
    wide = "float32" if is_narrow_float(source) else "int32"

    def compute(data: te.Tensor, step: te.Tensor, *offset: te.Tensor) -> te.Tensor:
        def element(*i: Any) -> Expr:
            level = data(*i).astype(wide)
            if offset:
                level = level - offset[0](*place(i)).astype(wide)
            return level.astype("float32") * step(*place(i))

        return tabulate(data.shape, element, name="dequantize")

    # A single zero point may be a scalar or a vector, whichever the scale is.
    zero = [node.builder.reshape(node.tensor(2), node.builder.shape(scale))] if node.has(2) else []
    return node.builder.cast(node.te(compute, x, scale, *zero, name="dequantize"), result)


def _parameter_place(node: Node, x: Expr, scale: Expr) -> Any:
    """Where an element finds its scale: everywhere the same, along an axis, or by blocks of an axis."""
    rank, scale_shape = len(node.builder.shape(x)), node.builder.shape(scale)
    if not scale_shape:
        return lambda i: ()
    if len(scale_shape) == 1 and node.extents.equal(scale_shape[0], 1):
        return lambda i: (tirx.IntImm("int64", 0),)
    axis = normalize_axis(node.integer("axis", 1), rank)
    block = node.integer("block_size", 0)
    if len(scale_shape) == 1:
        return lambda i: (i[axis],)
    if not block:
        raise InvalidModelError("a scale of the data's rank needs a block_size")
    return lambda i: (*i[:axis], tirx.floordiv(i[axis], block), *i[axis + 1 :])


@converts("DynamicQuantizeLinear")
def dynamic_quantize(node: Node) -> list[Expr]:
    return dynamically_quantized(node)


def dynamically_quantized(node: Node) -> list[Expr]:
    """The first input in uint8, its scale and its zero point, over its range, widened to contain zero."""
    x = node.tensor(0)
    highest, lowest = node.emit(relax.op.max(x)), node.emit(relax.op.min(x))

    def parameters(top: te.Tensor, bottom: te.Tensor) -> list[te.Tensor]:
        zero, levels = tirx.const(0, "float32"), tirx.const(255, "float32")

        def low(*_: Any) -> Expr:
            return tirx.min(bottom(), zero)

        scale = tabulate((), lambda *_: (tirx.max(top(), zero) - low()) / levels, name="scale")

        def offset(*_: Any) -> Expr:
            safe = tirx.Select(scale() == zero, tirx.const(1, "float32"), scale())
            level = tirx.nearbyint(-low() / safe)
            return tirx.max(tirx.min(level, levels), zero).astype("uint8")

        return [scale, tabulate((), offset, name="zero_point")]

    scale, zero = node.te(parameters, highest, lowest, name="quantization_range")
    return [quantized(node, x, scale, zero, "uint8"), scale, zero]


@converts("MatMulInteger")
def matmul_integer(node: Node) -> Expr:
    return product(node.builder, _centred(node, 0, 2, rows=True), _centred(node, 1, 3, rows=False))


def _centred(node: Node, index: int, zero_index: int, rows: bool) -> Expr:
    """The operand as int32, minus its zero point: one for all, for each row, or for each column."""
    wide = node.builder.cast(node.tensor(index), "int32")
    if not node.has(zero_index):
        return wide
    zero = node.builder.cast(node.tensor(zero_index), "int32")
    shape = node.builder.shape(zero)
    if rows and len(shape) == 1 and not node.extents.equal(shape[0], 1):
        zero = node.builder.reshape(zero, [*shape, 1])
    return node.emit(relax.op.subtract(*node.builder.broadcastable(wide, zero)))


@converts("QLinearMatMul")
def qlinear_matmul(node: Node) -> Expr:
    total = product(node.builder, _centred(node, 0, 2, rows=True), _centred(node, 3, 5, rows=False))
    scale_a, scale_b, scale_y = (node.builder.cast(node.tensor(i), "float32") for i in (1, 4, 6))
    if node.rank(1) == 1 and node.rank(0) > 1:
        scale_a = node.builder.reshape(scale_a, [*node.shape(1), 1])
    scale = node.emit(relax.op.multiply(*node.builder.broadcastable(scale_a, scale_b)))
    return _requantized(node, total, scale, scale_y, 7)


def _requantized(node: Node, total: Expr, scale: Expr, scale_y: Expr, zero_index: int) -> Expr:
    wide = node.builder.cast(total, "float32")
    real = node.emit(relax.op.multiply(*node.builder.broadcastable(wide, scale)))
    step = node.builder.reshape(scale_y, ())
    zero = node.builder.reshape(node.tensor(zero_index), ())
    return quantized(node, real, step, zero, node.dtype(zero_index))


@converts("ConvInteger")
def convolution_integer(node: Node) -> Expr:
    return _integer_convolution(node, _centred_images(node, 0, 2), _centred_filters(node, 1, 3), 1)


@converts("QLinearConv")
def qlinear_convolution(node: Node) -> Expr:
    total = _integer_convolution(node, _centred_images(node, 0, 2), _centred_filters(node, 3, 5), 3)
    spatial = node.rank(0) - 2
    if node.has(8):
        bias = node.builder.reshape(node.tensor(8), [1, node.shape(8)[0], *[1] * spatial])
        total = node.emit(relax.op.add(total, bias))
    scale_x = node.builder.reshape(node.tensor(1), ())
    scale_w = node.builder.reshape(node.tensor(4), [1, node.extents.product(node.shape(4)), *[1] * spatial])
    scale = node.emit(relax.op.multiply(scale_x, scale_w))
    return _requantized(node, total, scale, node.tensor(6), 7)


def _centred_images(node: Node, index: int, zero_index: int) -> Expr:
    wide = node.builder.cast(node.tensor(index), "int32")
    if not node.has(zero_index):
        return wide
    zero = node.builder.reshape(node.builder.cast(node.tensor(zero_index), "int32"), ())
    return node.emit(relax.op.subtract(wide, zero))


def _centred_filters(node: Node, index: int, zero_index: int) -> Expr:
    wide = node.builder.cast(node.tensor(index), "int32")
    if not node.has(zero_index):
        return wide
    count = node.extents.product(node.shape(zero_index))
    column = [count, *[1] * (node.rank(index) - 1)]
    zero = node.builder.reshape(node.builder.cast(node.tensor(zero_index), "int32"), column)
    return node.emit(relax.op.subtract(wide, zero))


def _integer_convolution(node: Node, x: Expr, weight: Expr, weight_index: int) -> Expr:
    kernel = [int(extent) for extent in node.builder.shape(weight)[2:]]
    ones = [1] * len(kernel)
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    pads = explicit_pads(node, node.builder.shape(x)[2:], kernel, strides, dilations)
    half = len(kernel)
    x = pad_constant(node, x, [0, 0, *pads[:half]], [0, 0, *pads[half:]], np.zeros((), np.int32))
    return convolve(node, x, weight, strides, [0] * (2 * half), dilations, node.integer("group", 1))


def centred(node: Node, index: int, zero_index: int) -> Expr:
    """Input ``index`` in int32, less its zero point if there is one."""
    wide = node.builder.cast(node.tensor(index), "int32")
    if not node.has(zero_index):
        return wide
    zero = node.builder.cast(node.tensor(zero_index), "int32")
    return node.emit(relax.op.subtract(*node.builder.broadcastable(wide, zero)))
