"""Accumulators and other small buffers live on the stack, large ones do not."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import te, tirx
from tvm.script import ir as I
from tvm.script import tirx as T

from relaxc.passes.compute.matmul import matmul_packed
from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.cpu.tir_pipeline import TIR_PIPELINE, keep_small_buffers_on_stack
from relaxc.targets.registry import resolve

LARGE = (1 << 14) + 1  # float32 elements: 4 bytes more than the limit


def marked_buffers(mod: tvm.IRModule) -> dict[str, bool]:
    found = {}

    def note(allocation: tirx.AllocBuffer) -> tirx.AllocBuffer:
        found[allocation.buffer.name] = "disable_lower_builtin" in allocation.annotations
        return allocation

    tvm_ffi.structural_map(mod["main"], (tirx.AllocBuffer, note))
    return found


def test_small_buffers_are_marked() -> None:
    @I.ir_module
    class Buffers:
        @T.prim_func
        def main(x: T.Buffer((16,), "float32")):
            small = T.alloc_buffer((1 << 14,), "float32", scope="local")
            large = T.alloc_buffer((LARGE,), "float32")
            small[0] = x[0]
            large[0] = small[0]
            x[0] = large[0]

    assert marked_buffers(keep_small_buffers_on_stack()(Buffers)) == {"small": True, "large": False}


def test_a_register_tile_asks_no_allocator() -> None:
    x, w = te.placeholder((1, 50, 64), name="x"), te.placeholder((3, 64, 16), name="w")
    target = resolve("x86-64-v4")
    function = schedule_kernel(te.create_prim_func([x, w, matmul_packed(x, w, 48)]), target.machine).function
    module = tvm.IRModule({"f": function.with_attr("global_symbol", "f")})
    code = tvm.tirx.build(module, target.tvm_target, pipeline=TIR_PIPELINE).inspect_source("ll")
    assert "AllocWorkspace" not in code
