"""Brings the right-hand sides of matrix multiplications into panels.

Constant ones are packed here, at compile time. Activations are packed by the kernel, which reads through the
transposes that produced them, so that no transposed copy is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import tvm
from tvm import ir, relax, te, tirx

from .compute import NARROW_LANES, layout
from .compute.layout import Array
from .compute.matmul import matmul_batched, matmul_packed, may_be_one_matrix
from .compute.matmul_pairs import matmul_batched_pairs, matmul_packed_pairs, step_depth
from .constants import constant, constant_value
from .rewrite import CallRewriter, rewrite_calls
from .tensor_types import element_type

ROWS_THAT_FILL_TILES = 6
PANELS_WORTH_ONE_MORE = 15
NARROW = "bfloat16"
Definition = Callable[..., te.Tensor]
PRODUCTS = (("float32", "float32"), (NARROW, "float32"), ("float16", "float32"))
"""The types of the operands and of the result that there are kernels for."""


def prepack_matmul(mod: tvm.IRModule, block: int, depth: int = 2) -> tvm.IRModule:
    """The pass: ``matmul(x, W)`` with a constant W [K, N] reads W as [N / block, K, block] from now on.

    Products of bfloat16 take ``depth`` elements of K in a step; so many of float16 are summed in float16.
    """
    return rewrite_calls(mod, {"relax.matmul": partial(_matmul, block=block, depth=depth)})


def _matmul(rewriter: CallRewriter, call: ir.Call, block: int, depth: int) -> relax.Expr | None:
    data, weight = call.args[0], constant_value(call.args[1])
    shape = data.ty.shape
    if shape is None or len(shape) < 2 or (element_type(data), element_type(call)) not in PRODUCTS:
        return None
    if weight is not None and not weight.size:
        return None
    if weight is None or weight.ndim != 2:
        return _batched(rewriter, call, block, depth)
    depth = step_depth(shape[-1], depth) if element_type(data) == NARROW else depth
    packed = constant(layout.pack_matmul_weight(_with_panels_for_tiles(weight, block), block, depth))
    product_of = _definition(element_type(data), matmul_packed, matmul_packed_pairs, depth)
    columns = weight.shape[1]
    merged = depth > 2 and element_type(data) == NARROW and may_be_one_matrix(list(shape), columns, block)
    rows = None if merged else _rows_worth_merging(shape)
    if rows is None:
        return rewriter.builder_.call_te(
            product_of, data, packed, columns, primfunc_name_hint="matmul_packed"
        )
    flat = rewriter.builder_.emit(relax.op.reshape(data, (rows, weight.shape[0])))
    product = rewriter.builder_.call_te(product_of, flat, packed, columns, primfunc_name_hint="matmul_packed")
    return relax.op.reshape(rewriter.builder_.emit(product), (*list(shape)[:-1], columns))


def _with_panels_for_tiles(weight: Array, block: int) -> Array:
    """``weight`` with zeros for one more panel where tiles of two or three panels would not come out even.

    With narrow vectors such tiles load more than they compute with.
    """
    panels = -(-weight.shape[1] // block)
    fills_tiles = panels % 2 == 0 or panels % 3 == 0
    if block > NARROW_LANES or fills_tiles or panels < PANELS_WORTH_ONE_MORE:
        return weight
    return layout.pad_channels(weight, 1, 2 * block)


def _batched(rewriter: CallRewriter, call: ir.Call, block: int, depth: int) -> relax.Expr | None:
    (a, a_axes), (b, b_axes) = (_through_transpose(rewriter, operand) for operand in call.args)
    if len(b_axes) < 2 or b.ty.shape is None or a_axes[-1] != len(a_axes) - 1:
        return None
    definition = _definition(element_type(a), matmul_batched, matmul_batched_pairs, depth)
    product = partial(definition, a_axes=a_axes, b_axes=b_axes, lanes=block)
    return rewriter.builder_.call_te(product, a, b, primfunc_name_hint="matmul")


def _definition(dtype: str, plain: Definition, pairs: Definition, depth: int) -> Definition:
    """What multiplies operands of ``dtype``."""
    if dtype == NARROW:
        return partial(pairs, depth=depth)
    return partial(plain, half_terms=depth) if dtype == "float16" and depth > 1 else plain


def _through_transpose(rewriter: CallRewriter, operand: relax.Expr) -> tuple[relax.Expr, list[int]]:
    """What ``operand`` is a transpose of, and by which axes; itself in order if it is none."""
    transpose = rewriter.defining_call(operand, "relax.permute_dims")
    rank = operand.ty.ndim
    if transpose is None:
        return operand, list(range(rank))
    axes = transpose.attrs.axes
    order = range(rank)[::-1] if axes is None else (int(axis) % rank for axis in axes)
    return transpose.args[0], list(order)


def _rows_worth_merging(shape: Sequence[tirx.Expr]) -> int | None:
    """The number of rows of [..., M, K] if the axes before K should become one; None if they should not.

    Few rows do not fill a tile. Merging costs nothing by itself, but what follows is then not fused.
    """
    leading = list(shape)[:-1]
    if not all(isinstance(extent, tirx.IntImm) for extent in leading):
        return None
    extents = [int(extent) for extent in leading]
    return math.prod(extents) if extents[-1] < ROWS_THAT_FILL_TILES < math.prod(extents) else None
