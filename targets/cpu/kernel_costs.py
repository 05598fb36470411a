"""How much arithmetic and memory traffic a kernel needs, for reports and for cost models."""

from __future__ import annotations

import math

import tvm
from tvm import tirx
from tvm.s_tir.analysis import estimate_tir_flops


def flops(function: tirx.PrimFunc) -> int | None:
    """Floating-point operations of one call of an unscheduled ``function``; None if extents are symbolic."""
    if any(static_extents(buffer) is None for buffer in buffers(function)):
        return None
    return int(estimate_tir_flops(tvm.IRModule({"main": function})))


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
