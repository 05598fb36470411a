"""Takes the question whether a column of a tile lies in the map out of the computations on that column.

Winograd's transform of the input asks it for each pixel, which costs more than the transform. Asked once for
a column, it leaves plain loads; a column outside of the map is zero, and so is what a linear transform makes
of it.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm_ffi import structural_equal

from .tile_walk import first_values


def ask_once_for_columns(sch: Schedule, loop: LoopRV, block: SBlockRV, axis: int) -> None:
    """Branches in ``loop``, where ``block`` selects between pixels and zero by conditions on one column.

    Args:
        sch: the schedule; nothing that is scheduled later may ask about ``block``.
        loop: goes over columns; below it are loops that are unrolled or vectorised, and ``block``.
        block: its value is linear in what it selects.
        axis: the number of its axis that counts columns.
    """
    transform = sch.get(block)
    guards = _guards(transform.body, transform.iter_vars[axis].var)
    if not guards or not all(structural_equal(guard, guards[0]) for guard in guards):
        return
    statement = sch.get(loop)
    known = dict(zip((a.var for a in transform.iter_vars), first_values(statement, transform), strict=True))
    inside = tvm_ffi.structural_map(guards[0], (tirx.Var, lambda v: known.get(v, v)))
    there = _with_body(statement.body, transform, _within_map(transform.body, guards[0]))
    outside = _with_body(statement.body, transform, _zero(transform.body))
    body = tirx.IfThenElse(inside, there, outside)
    branching = tirx.For(
        statement.loop_var, statement.min, statement.extent, statement.kind, body, None, statement.annotations
    )
    sch.state.replace(sch.get_sref(loop), branching)


def _guards(body: tirx.Stmt, column: tirx.Var) -> list[tirx.EQ]:
    """The comparisons in ``body`` that depend on ``column``."""
    comparisons: list[tirx.EQ] = []
    tvm_ffi.structural_walk(body, [(tirx.EQ, comparisons.append)])
    return [comparison for comparison in comparisons if _uses(comparison, column)]


def _uses(node: tirx.Expr, variable: tirx.Var) -> bool:
    uses: list[bool] = []
    tvm_ffi.structural_walk(node, [(tirx.Var, lambda v: uses.append(v.same_as(variable)))])
    return any(uses)


def _within_map(body: tirx.Stmt, guard: tirx.EQ) -> tirx.Stmt:
    """``body`` where ``guard`` holds, by which a clamped index equals the index."""

    def condition(node: tirx.And) -> tirx.Expr:
        kept = [part for part in (node.a, node.b) if not structural_equal(part, guard)]
        return tirx.all(*kept) if kept else tirx.const(True, "bool")

    plain = tvm_ffi.structural_map(body, (tirx.And, condition))
    return tvm_ffi.structural_map(
        plain, (tirx.Max, lambda node: guard.b if structural_equal(node, guard.a) else node)
    )


def _zero(body: tirx.Stmt) -> tirx.Stmt:
    assert isinstance(body, tirx.BufferStore)
    return tirx.BufferStore(body.buffer, tirx.const(0, body.value.ty.dtype), body.indices)


def _with_body(nest: tirx.Stmt, old: SBlock, body: tirx.Stmt) -> tirx.Stmt:
    new = SBlock(old.iter_vars, old.reads, old.writes, old.name_hint, body, annotations=old.annotations)

    def realize(node: SBlockRealize) -> SBlockRealize:
        return SBlockRealize(node.iter_values, node.predicate, new)

    return tvm_ffi.structural_map(nest, (SBlockRealize, realize))
