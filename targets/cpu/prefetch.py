"""Prefetching of weights: while a kernel reuses one group of panels, the next one comes from memory.

A kernel that reduces products sweeps its rows in tiles, once for every group of weight panels. The first
tiles of a sweep would wait for memory, as a large model's weights do not stay in the caches between two runs.
So each tile asks for its part of the next group, one cache line or a few in a reduction step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock, SBlockRealize, Schedule
from tvm.s_tir.schedule import LoopRV

from .machine import CACHE_LINE_BYTES

_PREFETCH = "relaxc.prefetch"
_PREFETCH_POSITION = "relaxc.prefetch_position"
_MOST_TILES = 48  # With more tiles in a sweep, waiting for memory is a small part of its time.
_MOST_LINES_A_STEP = 8  # Four products on tiles take as long as so many loads can be added to theirs.
_MOST_ROWS = 64  # With more rows at a position, the same.
_FEWEST_BYTES = 4096  # The prefetcher of the processor does well on smaller groups.


@dataclass(frozen=True)
class RowTiles:
    """One axis of an anchor block that a sweep tiles: its number, the rows of a tile, and how many tiles."""

    axis: int
    rows: int
    tiles: int


@dataclass(frozen=True)
class PanelSweep:
    """How an anchor block walks over its weights.

    Attributes:
        panel_axis: number of the axis that selects a panel; it is the first index of the weights.
        panels: how many panels a tile takes: a group.
        steps: how many reduction steps a tile takes.
        step_bytes: of one panel, in one step.
        row_axes: what is tiled within a sweep, outermost first.
    """

    panel_axis: int
    panels: int
    steps: int
    step_bytes: int
    row_axes: tuple[RowTiles, ...]

    @property
    def lines_per_tile(self) -> int:
        """Cache lines that each tile must ask for, so that all of them get the next group."""
        group = -(-self.panels * self.steps * self.step_bytes // CACHE_LINE_BYTES)
        return -(-group // math.prod(axis.tiles for axis in self.row_axes))

    @property
    def gains_from_prefetching(self) -> bool:
        """Whether a sweep is long enough to fetch a group, and short enough for that to matter."""
        tiles = math.prod(axis.tiles for axis in self.row_axes)
        group_bytes = self.panels * self.steps * self.step_bytes
        return tiles <= _MOST_TILES and group_bytes >= _FEWEST_BYTES and self.lines_per_tile <= self.steps


@dataclass(frozen=True)
class GroupFetch:
    """How the steps of a sweep share the cache lines of the next group of panels.

    Attributes:
        lines: of a group.
        steps: of a whole sweep over one group.
    """

    lines: int
    steps: int

    def lines_at(self, step: tirx.Expr) -> list[tirx.Expr]:
        """The numbers of the lines to be fetched in ``step``; the same in several steps if there are many."""
        each = min(-(-self.lines // self.steps), _MOST_LINES_A_STEP)
        if each > 1:
            return [step * each + line for line in range(each)]
        return [tirx.floordiv(step, 1 << int(math.log2(self.steps / self.lines)))]


@dataclass(frozen=True)
class PositionSweep:
    """How an anchor block walks over weights [panel, position, step, lane], one position after the other.

    Attributes:
        panel_axis: number of the axis that selects a panel.
        panels: how many panels a tile takes: their steps at one position are a group.
        steps: how many reduction steps a tile takes.
        step_bytes: of one panel, in one step.
        rows: what is tiled at each position.
        wraps: whether the next group of panels follows the last position; if it does not, what is fetched
            there is of no use.
    """

    panel_axis: int
    panels: int
    steps: int
    step_bytes: int
    rows: RowTiles
    wraps: bool = False

    @property
    def lines_per_panel(self) -> int:
        """Cache lines of a panel at one position."""
        return -(-self.steps * self.step_bytes // CACHE_LINE_BYTES)

    @property
    def lines_per_tile(self) -> int:
        """Cache lines that each tile must ask for, so that all of them get the next position's group."""
        return -(-self.panels * self.lines_per_panel // self.rows.tiles)

    @property
    def lines_per_step(self) -> int:
        """The same for each reduction step of a tile."""
        return -(-self.lines_per_tile // self.steps)

    @property
    def gains_from_prefetching(self) -> bool:
        """Whether a position takes long enough to fetch the next one's group, and not so long that the
        processor's own prefetcher has done it by then."""
        rows = self.rows.rows * self.rows.tiles
        group_bytes = self.panels * self.steps * self.step_bytes
        return rows <= _MOST_ROWS and group_bytes >= _FEWEST_BYTES and self.lines_per_tile <= self.steps


def mark_position_prefetch(sch: Schedule, step: LoopRV, sweep: PositionSweep) -> None:
    """Notes on the innermost reduction loop ``step`` that it shall fetch the next position's weights."""
    rows = sweep.rows
    numbers = [
        sweep.panel_axis,
        sweep.panels,
        sweep.steps,
        sweep.step_bytes,
        rows.axis,
        rows.rows,
        rows.tiles,
        int(sweep.wraps),
    ]
    sch.annotate(step, _PREFETCH_POSITION, numbers)


def mark_prefetch(sch: Schedule, step: LoopRV, sweep: PanelSweep) -> None:
    """Notes on the innermost reduction loop ``step`` that it shall fetch the next group of panels."""
    row_axes = chain.from_iterable((axis.axis, axis.rows, axis.tiles) for axis in sweep.row_axes)
    numbers = [sweep.panel_axis, sweep.panels, sweep.steps, sweep.step_bytes, *row_axes]
    sch.annotate(step, _PREFETCH, numbers)


def _sweep_of(numbers: Sequence[int]) -> PanelSweep:
    panel_axis, panels, steps, step_bytes, *rows = map(int, numbers)
    row_axes = zip(rows[::3], rows[1::3], rows[2::3], strict=True)
    return PanelSweep(panel_axis, panels, steps, step_bytes, tuple(RowTiles(*axis) for axis in row_axes))


def _position_sweep_of(numbers: Sequence[int]) -> PositionSweep:
    panel_axis, panels, steps, step_bytes, *rows, wraps = map(int, numbers)
    return PositionSweep(panel_axis, panels, steps, step_bytes, RowTiles(*rows), bool(wraps))


def insert_prefetches(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Turns the marks in a scheduled ``function`` into prefetch instructions."""

    def visit(loop: tirx.For) -> tirx.For:
        if _PREFETCH in loop.annotations:
            return _with(loop, _PREFETCH, [_prefetch(loop, _sweep_of(loop.annotations[_PREFETCH]))])
        if _PREFETCH_POSITION in loop.annotations:
            sweep = _position_sweep_of(loop.annotations[_PREFETCH_POSITION])
            return _with(loop, _PREFETCH_POSITION, _position_prefetches(loop, sweep))
        return loop

    return tvm_ffi.structural_map(function, (tirx.For, visit))


def _with(loop: tirx.For, mark: str, prefetches: Sequence[tirx.Stmt]) -> tirx.For:
    """``loop`` with ``prefetches`` in front of its body, and without the mark."""
    annotations = {key: value for key, value in loop.annotations.items() if key != mark}
    body = tirx.SeqStmt([*prefetches, loop.body])
    return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, loop.thread_binding, annotations)


def _prefetch(step: tirx.For, sweep: PanelSweep) -> tirx.Stmt:
    realize, tile_start = _anchor_below(step)
    values = [tile_start(value) for value in realize.iter_values]
    weights = _weights(realize.block, sweep.panel_axis)
    line = _tile_number(values, sweep) * sweep.lines_per_tile + _step_number(realize.block, values) // (
        _steps_per_line(sweep)
    )
    element_bytes = int(tvm.DataType(weights.dtype).itemsize)
    between = [0] * (len(weights.shape) - 2)
    place = [values[sweep.panel_axis] + sweep.panels, *between, line * (CACHE_LINE_BYTES // element_bytes)]
    return fetch_line(tirx.BufferLoad(weights, place))


def _position_prefetches(step: tirx.For, sweep: PositionSweep) -> list[tirx.Stmt]:
    realize, tile_start = _anchor_below(step)
    block, values = realize.block, [tile_start(value) for value in realize.iter_values]
    weights = _weights(block, sweep.panel_axis)
    (read,) = (read for read in block.reads if read.source.same_as(weights))
    next_position, first_panel = _at(block, values, read.region[1].min) + 1, values[sweep.panel_axis]
    if sweep.wraps:
        first_panel += tirx.floordiv(next_position, weights.shape[1]) * sweep.panels
        next_position = tirx.floormod(next_position, weights.shape[1])
    tile = values[sweep.rows.axis] // sweep.rows.rows
    number = _step_number(block, values) // _steps_per_line(sweep) * sweep.lines_per_step
    elements = CACHE_LINE_BYTES // int(tvm.DataType(weights.dtype).itemsize)

    def fetch(line: tirx.Expr) -> tirx.Stmt:
        panel = first_panel + line // sweep.lines_per_panel
        place = [panel, next_position, 0, line % sweep.lines_per_panel * elements]
        return fetch_line(tirx.BufferLoad(weights, place))

    return [fetch(tile * sweep.lines_per_tile + number + i) for i in range(sweep.lines_per_step)]


def _at(block: SBlock, values: Sequence[tirx.Expr], index: tirx.Expr) -> tirx.Expr:
    """``index``, an expression in the variables of ``block``, where these have ``values``."""
    known = {iteration.var: value for iteration, value in zip(block.iter_vars, values, strict=True)}
    return tvm_ffi.structural_map(index, (tirx.Var, lambda variable: known.get(variable, variable)))


def fetch_line(element: TensorLoad, locality: int = 2) -> tirx.Stmt:
    """Asks for the cache line of ``element``, into the first-level cache (3) or the second (2)."""
    # Arguments of the intrinsic: for reading, into which cache, data.
    hints = (tirx.const(number, "int32") for number in (0, locality, 1))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", tirx.address_of(element), *hints))


def _anchor_below(
    step: tirx.For,
) -> tuple[SBlockRealize, Callable[[tirx.Expr], tirx.Expr]]:
    """The block in the loops of a tile, and a function that sets these loops to their start."""
    node, inner = step.body, []
    while isinstance(node, tirx.For):
        inner.append(node.loop_var)
        node = node.body

    def start(variable: tirx.Var) -> tirx.Expr:
        return tirx.const(0, variable.ty.dtype) if any(variable.same_as(v) for v in inner) else variable

    return node, lambda value: tvm_ffi.structural_map(value, (tirx.Var, start))


def _weights(block: SBlock, panel_axis: int) -> tirx.Var:
    """The buffer whose first index is the panel."""
    panel = block.iter_vars[panel_axis].var
    (weights,) = (read.source for read in block.reads if read.region[0].min.same_as(panel))
    return weights


def _tile_number(values: Sequence[tirx.Expr], sweep: PanelSweep) -> tirx.Expr:
    number: tirx.Expr = tirx.const(0, "int32")
    for axis in sweep.row_axes:
        number = number * axis.tiles + values[axis.axis] // axis.rows % axis.tiles
    return number


def _step_number(block: SBlock, values: Sequence[tirx.Expr]) -> tirx.Expr:
    number: tirx.Expr = tirx.const(0, "int32")
    for var, value in zip(block.iter_vars, values, strict=True):
        if var.iter_type == tirx.IterVar.CommReduce:
            number = number * var.dom.extent + value
    return number


def _steps_per_line(sweep: PanelSweep | PositionSweep) -> int:
    """A power of two, which divides quickly: so many steps share one prefetched line."""
    return 1 << max(0, int(math.log2(sweep.steps / sweep.lines_per_tile)))
