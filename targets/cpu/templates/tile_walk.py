"""Has the block behind Winograd's inverse transform go from tile to tile, not from row to row of the map.

Tiles follow each other over the ends of the map's rows. The scheduler cannot reorder loops like that, since
it would have to divide by the number of tiles in a row, which may be symbolic. So the block is written anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import ir, tirx
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.sym import Analyzer

from ....passes.compute.winograd import TileGrid, Tiling
from .blocks import output_shape


def walk_tiles(sch: Schedule, last: SBlockRV, tile: int) -> None:
    """Gives ``last``, the only reader of finished tiles, the loops of these instead of its own.

    Args:
        sch: the schedule.
        last: writes [n, o, h, w, lane].
        tile: the extent of a tile; tiles are [n, o, block, place, tile, tile, lane].
    """
    (tiles,) = sch.get_producers(last)
    finished = sch.get(tiles).writes[0].source
    walk = _walk(sch.get(last), finished, tile, output_shape(sch, last))
    first_loop = sch.get_loops(last)[0]
    old, new = sch.get(last), walk.block
    sch.state.replace(sch.get_sref(first_loop), walk.nest, {old: new})


@dataclass(frozen=True)
class _Walk:
    """The loops over tiles, and the block in them."""

    nest: tirx.For
    block: SBlock


def _walk(last: SBlock, finished: tirx.Var, tile: int, shape: Sequence[tirx.Expr]) -> _Walk:
    names = ("n", "o", "block", "place", "a", "b", "lane")
    extents = list(finished.shape)
    axes = [tirx.Var(f"v_{name}", extent.ty.dtype) for name, extent in zip(names, extents, strict=True)]
    n, o, block, place, a, b, lane = axes
    _, _, height, width, _ = shape
    grid = TileGrid(Tiling(tile, int(extents[3])), height, width)
    top, left = grid.corner(block, place)
    h, w = top + a, left + b
    places = dict(zip((axis.var for axis in last.iter_vars), (n, o, h, w, lane), strict=True))
    moved = _Moved(finished, axes, places)
    body = moved.statement(last.body)
    inside = Analyzer().simplify(tirx.all(h < height, w < width))
    guarded = body if _is_true(inside) else tirx.IfThenElse(inside, body, None)
    iter_vars = [
        tirx.IterVar(ir.Range(0, extent), axis, tirx.IterVar.DataPar)
        for axis, extent in zip(axes, extents, strict=True)
    ]
    new = SBlock(
        iter_vars,
        [moved.region(region) for region in last.reads],
        [moved.region(region) for region in last.writes],
        last.name_hint,
        guarded,
        annotations=last.annotations,
    )
    loops = [tirx.Var(name, extent.ty.dtype) for name, extent in zip(names, extents, strict=True)]
    nest = SBlockRealize(loops, tirx.const(True, "bool"), new)
    for loop, extent in reversed(list(zip(loops, extents, strict=True))):
        nest = tirx.For(loop, tirx.const(0, loop.ty.dtype), extent, tirx.ForKind.SERIAL, nest)
    return _Walk(nest, new)


def _is_true(condition: tirx.Expr) -> bool:
    return isinstance(condition, tirx.IntImm) and bool(condition)


@dataclass(frozen=True)
class _Moved:
    """What changes in a block when it goes over other axes.

    Attributes:
        finished: the tiles, which it reads where its new ``axes`` are.
        axes: the new ones.
        places: what the old axes are, in terms of the new ones.
    """

    finished: tirx.Var
    axes: list[tirx.Var]
    places: dict[tirx.Var, tirx.Expr]

    def statement(self, body: tirx.Stmt) -> tirx.Stmt:
        """``body`` with the new axes."""

        def load(node: ir.TensorLoad) -> ir.TensorLoad:
            return tirx.BufferLoad(node.source, self.axes) if node.source.same_as(self.finished) else node

        direct = tvm_ffi.structural_map(body, (ir.TensorLoad, load))
        return tvm_ffi.structural_map(direct, (tirx.Var, self._place))

    def region(self, region: tirx.BufferRegion) -> tirx.BufferRegion:
        """What is read or written of a buffer with the new axes."""
        if region.source.same_as(self.finished):
            ranges = [ir.Range.from_min_extent(axis, tirx.const(1, axis.ty.dtype)) for axis in self.axes]
            return tirx.BufferRegion(region.source, ranges)
        return tvm_ffi.structural_map(region, (tirx.Var, self._place))

    def _place(self, variable: tirx.Var) -> tirx.Expr:
        return self.places.get(variable, variable)


def grid_of(sch: Schedule, last: SBlockRV, tiling: Tiling) -> TileGrid:
    """The tiles of the map that ``last`` writes."""
    _, _, height, width, _ = output_shape(sch, last)
    return TileGrid(tiling, height, width)


@dataclass(frozen=True)
class TilePlace:
    """The numbers of the axes of a block of loops that say which tile it is at.

    Attributes:
        stage: the block.
        block: the axis that counts blocks of tiles.
        place: the axis that counts tiles in one of them.
    """

    stage: SBlockRV
    block: int
    place: int


def skip_missing_tiles(sch: Schedule, grid: TileGrid, loop: LoopRV, at: TilePlace) -> None:
    """Leaves out iterations of ``loop`` whose tiles, or first one of several, lie behind the end of the map.

    Nothing that is scheduled later may ask about blocks in ``loop``.
    """
    statement = sch.get(loop)
    values = first_values(statement, sch.get(at.stage))
    exists = values[at.block] * grid.tiling.count + values[at.place] < grid.tiles
    body = tirx.IfThenElse(exists, statement.body, None)
    guarded = tirx.For(
        statement.loop_var, statement.min, statement.extent, statement.kind, body, None, statement.annotations
    )
    sch.state.replace(sch.get_sref(loop), guarded)


def first_values(loop: tirx.For, block: SBlock) -> list[tirx.Expr]:
    """The axes of ``block`` in the first iteration of the loops in ``loop``."""
    inner: list[tirx.Var] = []
    realizations: list[SBlockRealize] = []
    tvm_ffi.structural_walk(
        loop.body, [(tirx.For, lambda f: inner.append(f.loop_var)), (SBlockRealize, realizations.append)]
    )
    (realize,) = (r for r in realizations if r.block.same_as(block))
    first = {variable: tirx.const(0, variable.ty.dtype) for variable in inner}
    return [
        tvm_ffi.structural_map(value, (tirx.Var, lambda v: first.get(v, v))) for value in realize.iter_values
    ]
