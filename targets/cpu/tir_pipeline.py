"""How scheduled kernels are lowered: as TVM does it, with small buffers on the stack.

Importing this module registers the pipeline; ``relax.build`` and ``tvm.tirx.build`` take it by its name.
"""

from __future__ import annotations

import math
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir.pipeline import default_s_tir_pipeline
from tvm.tirx.compilation_pipeline import register_tir_pipeline

TIR_PIPELINE = "relaxc_cpu"
STACK_BYTES = 1 << 16
"""Buffers of at most this size live on the stack: a register tile, its copy for the epilogue, a padded strip.
To ask the workspace allocator for one takes as long as to compute a small strip."""


def keep_small_buffers_on_stack() -> tvm.transform.Pass:
    """Marks small buffers, so that they are not asked of the workspace allocator.

    TVM asks it for every buffer of 1 KB and for every one of local scope, once an iteration of the loop
    around it; LLVM then cannot tell what else may read the accumulators, and stores them after every step.
    """

    def run(mod: tvm.IRModule, context: tvm.transform.PassContext) -> tvm.IRModule:
        return tvm.IRModule({variable: _mark(f) for variable, f in mod.functions_items()}, attrs=mod.attrs)

    return tvm.transform.module_pass(run, opt_level=0, name="KeepSmallBuffersOnStack")


def _mark(function: tvm.ir.BaseFunc) -> tvm.ir.BaseFunc:
    if not isinstance(function, tirx.PrimFunc):
        return function
    return tvm_ffi.structural_map(function, (tirx.AllocBuffer, _on_stack_if_small))


def _on_stack_if_small(allocation: tirx.AllocBuffer) -> tirx.AllocBuffer:
    size = _bytes(allocation.buffer)
    if size is None or size > STACK_BYTES:
        return allocation
    annotations = {**allocation.annotations, "disable_lower_builtin": tirx.IntImm("bool", 1)}
    return tirx.AllocBuffer(allocation.buffer, annotations)


def _bytes(buffer: Any) -> int | None:
    if not all(isinstance(extent, tirx.IntImm) for extent in buffer.shape):
        return None
    element = tvm.DataType(buffer.dtype)
    return math.prod(int(extent) for extent in buffer.shape) * int(element.bits * element.lanes) // 8


def _pipeline() -> Any:
    lower, finalize_host, finalize_device = default_s_tir_pipeline()

    def finalize() -> tvm.transform.Pass:
        return tvm.ir.transform.Sequential([keep_small_buffers_on_stack(), finalize_host()])

    return lower, finalize, finalize_device


register_tir_pipeline(TIR_PIPELINE, _pipeline)
