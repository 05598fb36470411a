"""How much arithmetic and memory traffic a kernel needs, for reports and for cost models."""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.analysis import estimate_tir_flops
from tvm.s_tir.schedule import SBlockRV

from ...passes.compute import WORKLOAD
from ...passes.compute.pairs import PRODUCT
from ...passes.compute.rows import COLUMN_REDUCTION, ROW_REDUCTION
from ...passes.operator_name import operator_name
from .templates import strassen_matmul, winograd_conv2d
from .templates.blocks import anchor_block, is_workload, loop_extents, root_blocks
from .templates.half_sums import multiplication_of


def flops(function: tirx.PrimFunc) -> int | None:
    """Floating-point operations of one call of an unscheduled ``function``; None if extents are symbolic.

    What a tile computes beyond the edge of the result is not counted, nor are the transforms of Winograd's
    convolution and the sums of Strassen's product, which are written as choices between all of their rows.
    Zeros that fill the last step of a reduction in pairs count.
    """
    if any(static_extents(buffer) is None for buffer in buffers(function)):
        return None
    function = _with_written_out_pairs(function)
    mod = tvm.IRModule({"main": function})
    sch = Schedule(mod)
    if function.body.block.name_hint != "root":
        return int(estimate_tir_flops(mod))
    for kind in (winograd_conv2d.KIND, strassen_matmul.KIND):
        products = anchor_block(sch, kind)
        if products is not None:
            return 2 * math.prod(map(_known, loop_extents(sch, products)))
    counted = int(estimate_tir_flops(mod))
    return counted - sum(_overrun_flops(sch, block) for block in root_blocks(sch) if _is_cropped(sch, block))


def _with_written_out_pairs(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function`` with two multiplications and an addition in the place of each product of pairs."""

    def written_out(call: ir.Call) -> tirx.Expr:
        if operator_name(call) != PRODUCT:
            return call
        product = tirx.Mul(*(tirx.Cast("float32", pair) for pair in call.args))
        return tirx.Add(product, product)

    return tvm_ffi.structural_map(function, (ir.Call, written_out))


def _is_cropped(sch: Schedule, block: SBlockRV) -> bool:
    """Whether ``block`` is an anchor with a crop stage; those that reduce rows or columns have none."""
    whole = (ROW_REDUCTION, COLUMN_REDUCTION)
    return is_workload(sch, block) and sch.get(block).annotations[WORKLOAD] not in whole


def _overrun_flops(sch: Schedule, anchor: SBlockRV) -> int:
    """The multiplications and additions of the anchor's steps outside of what its crop stage keeps."""
    consumers = sch.get_consumers(anchor)
    if len(consumers) != 1:
        return 0  # nothing crops it
    (crop,) = consumers
    domain, kept = (math.prod(map(_known, loop_extents(sch, block))) for block in (anchor, crop))
    reduced = math.prod(
        int(var.dom.extent) for var in sch.get(anchor).iter_vars if var.iter_type == tirx.IterVar.CommReduce
    )
    return _flops_a_step(sch, anchor) * (domain - kept * reduced)


def _flops_a_step(sch: Schedule, anchor: SBlockRV) -> int:
    """Of the reduction: a multiplication and an addition; two of each for a pair, more for a short sum."""
    made = multiplication_of(sch, anchor)
    if made.terms > 1:
        return 2 * made.terms + 1
    in_pairs = any(str(read.source.dtype) == "int32" for read in sch.get(anchor).reads)
    return 4 if in_pairs else 2


def _known(extent: int | None) -> int:
    assert extent is not None, "all extents of a kernel with static buffers are static"
    return extent


def bytes_moved(function: tirx.PrimFunc) -> int | None:
    """Bytes of all the buffers that ``function`` is handed; None if extents are symbolic."""
    total = 0
    for buffer in buffers(function):
        extents = static_extents(buffer)
        if extents is None:
            return None
        total += math.prod(extents) * tvm.DataType(buffer.dtype).itemsize
    return total


def buffers(function: tirx.PrimFunc) -> list[tirx.Var]:
    """The parameters of ``function`` that are buffers."""
    return [param for param in function.params if isinstance(param.ty, tirx.BufferType)]


def static_extents(buffer: tirx.Var) -> tuple[int, ...] | None:
    """The extents of ``buffer``, or None where one is symbolic."""
    known = all(isinstance(extent, tirx.IntImm) for extent in buffer.shape)
    return tuple(int(extent) for extent in buffer.shape) if known else None
