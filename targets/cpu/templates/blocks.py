"""Questions about the blocks of a function, and the steps that several templates share."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute import WORKLOAD
from ....passes.operator_name import operator_name
from ..vector_math import ELEMENTARY_FUNCTIONS

MOST_NESTED_FUNCTIONS = 2
MOST_ITERATIONS = (1 << 31) - 1
"""Of a loop in the place of several: TVM may count those in 32 bits."""


def root_blocks(sch: Schedule) -> list[SBlockRV]:
    """The function's blocks, in program order."""
    return list(sch.get_child_blocks(sch.get_sblock("root")))


def anchor_block(sch: Schedule, kind: str) -> SBlockRV | None:
    """The block that computes a workload of ``kind``; None if there is none."""
    for block in root_blocks(sch):
        if sch.get(block).annotations.get(WORKLOAD) == kind:
            return block
    return None


def is_workload(sch: Schedule, block: SBlockRV) -> bool:
    """Whether ``block`` is an anchor: it holds the arithmetic that a template schedules."""
    return WORKLOAD in sch.get(block).annotations


def is_parameter(sch: Schedule, buffer: tirx.Var) -> bool:
    """Whether ``buffer`` is handed to the function, and not computed in it."""
    (function,) = sch.mod.functions.values()
    return any(buffer.same_as(param) for param in function.params)


def loop_extents(sch: Schedule, block: SBlockRV) -> list[int | None]:
    """The extents of the loops around ``block``, outermost first; None where one is symbolic."""
    return [_static(sch.get(loop).extent) for loop in sch.get_loops(block)]


def static_product(sch: Schedule, loops: list[LoopRV]) -> int | None:
    """How often the body of ``loops`` runs; None where an extent is symbolic."""
    extents = [_static(sch.get(loop).extent) for loop in loops]
    return None if None in extents else math.prod(extent for extent in extents if extent is not None)


def _static(extent: tirx.Expr) -> int | None:
    return int(extent) if isinstance(extent, tirx.IntImm) else None


def is_spatial(sch: Schedule, block: SBlockRV) -> bool:
    """Whether ``block`` reduces nothing."""
    return all(var.iter_type == tirx.IterVar.DataPar for var in sch.get(block).iter_vars)


def is_schedulable(sch: Schedule) -> bool:
    """Whether every root block is a plain nest: one loop for each of its axes, in order."""
    return all(_is_plain(sch, block) for block in root_blocks(sch))


def _is_plain(sch: Schedule, block: SBlockRV) -> bool:
    stmt = sch.get(block)
    loops = [sch.get(loop).loop_var for loop in sch.get_loops(block)]
    kinds = (tirx.IterVar.DataPar, tirx.IterVar.CommReduce)
    return (
        len(loops) == len(stmt.iter_vars) > 0
        and all(var.iter_type in kinds for var in stmt.iter_vars)
        and len(stmt.writes) == 1
        and not sch.get_child_blocks(block)
    )


def inline_spatial_producers(sch: Schedule, keep: Collection[str] = ()) -> None:
    """Inlines intermediate values that reduce nothing, if they have a single reader or are merely moved.

    Blocks named in ``keep``, and what they read, stay as they are.
    """
    for block in root_blocks(sch)[:-1]:
        readers = list(sch.get_consumers(block))
        kept = {sch.get(b).name_hint for b in (block, *readers)} & set(keep)
        moved = len(readers) > 1 and _only_moves(sch, block) and all(is_spatial(sch, r) for r in readers)
        single = len(readers) == 1 and may_nest(sch, [block, *readers])
        result = is_parameter(sch, sch.get(block).writes[0].source)
        if is_spatial(sch, block) and (single or moved) and not kept and not result:
            sch.compute_inline(block)


def _only_moves(sch: Schedule, block: SBlockRV) -> bool:
    """Whether ``block`` computes nothing: its values are those of other buffers, or constants."""
    body = sch.get(block).body
    return isinstance(body, tirx.BufferStore) and _is_load(body.value)


def _is_load(value: tirx.Expr) -> bool:
    if operator_name(value) == "prim.if_then_else":
        return all(_is_load(argument) for argument in value.args[1:])
    return isinstance(value, ir.TensorLoad | tirx.IntImm | tirx.FloatImm)


def may_nest(sch: Schedule, blocks: Sequence[SBlockRV]) -> bool:
    """Whether each of ``blocks`` may stand in the expression of the next one.

    TVM's analyzer writes out what a function computes at every use of its argument: the time that it takes
    grows by a hundred with each elementary function around another one.
    """
    return sum(_nested_functions(sch.get(block).body) for block in blocks) <= MOST_NESTED_FUNCTIONS


def _nested_functions(node: Any) -> int:
    """How deep calls of elementary functions are nested in ``node``."""
    calls: list[ir.Call] = []
    tvm_ffi.structural_walk(node, (ir.Call, calls.append))
    elementary = (call for call in calls if operator_name(call) in ELEMENTARY_FUNCTIONS)
    return max((1 + _nested_functions(list(call.args)) for call in elementary), default=0)


def output_shape(sch: Schedule, block: SBlockRV) -> tuple[tirx.Expr, ...]:
    """The shape of the buffer that ``block`` writes."""
    return tuple(sch.get(block).writes[0].source.shape)


def inline_epilogue(sch: Schedule, anchor: SBlockRV) -> SBlockRV:
    """Inlines what consumes ``anchor``, element for element, into one last block, and returns that block.

    Values with several readers are computed again for each: their operands are in registers. Where a value
    is broadcast, reduced, or read in two results, the epilogue ends before it.
    """
    (crop,) = sch.get_consumers(anchor)
    chain = _elementwise_chain(sch, crop)
    _inline_side_inputs(sch, anchor, {sch.get(block).name_hint for block in chain})
    for block in chain[:-1]:
        sch.compute_inline(block)
    return chain[-1]


def _inline_side_inputs(sch: Schedule, anchor: SBlockRV, chain: Collection[str]) -> None:
    """Inlines what only the blocks named in ``chain`` read, but for ``anchor``: casts of a residual, say."""
    keep = {sch.get(anchor).name_hint, *chain}
    for block in root_blocks(sch):
        readers = _readers(sch, block)
        kept = sch.get(block).name_hint in keep
        if is_spatial(sch, block) and not kept and readers and readers <= set(chain):
            sch.compute_inline(block)


def _elementwise_chain(sch: Schedule, first: SBlockRV) -> list[SBlockRV]:
    """``first`` and the blocks behind it, up to the last one through which all their readers are reached."""
    names = [sch.get(block).name_hint for block in root_blocks(sch)]
    behind = root_blocks(sch)[names.index(sch.get(first).name_hint) + 1 :]
    chain, inside, exits, length = [first], {sch.get(first).name_hint}, _readers(sch, first), 1
    for block in behind:
        name = sch.get(block).name_hint
        if name not in exits:
            continue
        if not _same_domain(sch, first, block) or not may_nest(sch, [*chain, block]):
            break
        chain.append(block)
        inside.add(name)
        if exits <= inside:
            length = len(chain)
        exits |= _readers(sch, block)
    return chain[:length]


def _readers(sch: Schedule, block: SBlockRV) -> set[str]:
    return {sch.get(consumer).name_hint for consumer in sch.get_consumers(block)}


def _same_domain(sch: Schedule, first: SBlockRV, block: SBlockRV) -> bool:
    shapes = ([str(extent) for extent in output_shape(sch, b)] for b in (first, block))
    return is_spatial(sch, block) and next(shapes) == next(shapes)


def take_rows_as_anchor_does(sch: Schedule, anchor: SBlockRV, last: SBlockRV) -> None:
    """Has the epilogue ``last`` go over several matrices as over one where ``anchor`` does so."""
    extents = loop_extents(sch, last)
    if len(extents) <= len(loop_extents(sch, anchor)) - 2:
        return  # the anchor has two loops more: one over lanes, one that it reduces

    def one_matrix(*index: tirx.Var) -> tuple[tirx.Expr, tirx.Expr]:
        row = index[0]
        for extent, axis in zip(extents[1:-1], index[1:-1], strict=True):
            row = row * extent + axis
        return row, index[-1]

    dtype = str(sch.get(sch.get_loops(last)[0]).loop_var.ty.dtype)
    sch.transform_block_layout(last, tirx.IndexMap.from_func(one_matrix, len(extents), index_dtype=dtype))


def all_rows(sch: Schedule, crop: SBlockRV) -> int | None:
    """Of all matrices together."""
    *extents, _ = loop_extents(sch, crop)
    return None if None in extents else math.prod(extent for extent in extents if extent is not None)


def parallelise(sch: Schedule, loops: list[LoopRV]) -> LoopRV:
    """Fuses ``loops`` into one whose iterations run on all threads.

    Outer ones with which it would have more than ``MOST_ITERATIONS`` stay serial.
    """
    while len(loops) > 1 and (static_product(sch, loops) or 0) > MOST_ITERATIONS:
        loops = loops[1:]
    fused = sch.fuse(*loops) if len(loops) > 1 else loops[0]
    sch.parallel(fused)
    return fused


def parallelise_nest(sch: Schedule, loops: list[LoopRV]) -> LoopRV:
    """Parallelises over adjacent ``loops`` together, in their order where all extents are known.

    At most one symbolic extent goes in, as the outermost; other symbolic loops stay serial outside. The
    scheduler could tell the indices of more only by dividing by symbolic numbers, and would lose track.
    """
    symbolic = [loop for loop in loops if static_product(sch, [loop]) is None]
    static = [loop for loop in loops if static_product(sch, [loop]) is not None]
    chosen = [*symbolic[-1:], *static]
    sch.reorder(*symbolic[:-1], *chosen)
    return parallelise(sch, chosen)


def unroll_all(sch: Schedule, loops: list[LoopRV]) -> None:
    """Unrolls every one of ``loops``, so that accumulators indexed by them can live in registers."""
    for loop in loops:
        sch.unroll(loop)
