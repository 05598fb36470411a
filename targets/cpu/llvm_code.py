"""Functions in LLVM's own language beside a kernel, for instructions that TVM cannot name."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock
from tvm.tirx.stmt import StringImm


def with_llvm_code(function: tirx.PrimFunc, code: str) -> tirx.PrimFunc:
    """``function``, scheduled, with the definitions in ``code`` beside it; it may call them as external."""

    def import_code(block: SBlock) -> SBlock:
        if block.name_hint != "root":
            return block
        body = tirx.AttrStmt(tirx.const(0, "int32"), "pragma_import_llvm", StringImm(code), block.body)
        parts = (block.iter_vars, block.reads, block.writes, block.name_hint, body, block.init)
        return SBlock(*parts, block.alloc_buffers, block.match_buffers, block.annotations)

    return tvm_ffi.structural_map(function, (SBlock, import_code))
