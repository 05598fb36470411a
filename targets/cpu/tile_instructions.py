"""AMX instructions in the place of a block that sums products of bfloat16 pairs.

A processor with AMX has eight tiles of sixteen rows of 64 bytes, a configuration that says how much of each
is in use, and tdpbf16ps: rows of 16 pairs times 16 rows of pairs, added to 16 sums a row in float32 (Intel
Architecture Instruction Set Extensions Programming Reference, chapter 3). ``tile_configuration`` has every
thread set the configuration before its part of a kernel, so that none stands in a loop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import tvm_ffi
from tvm import ir, tirx
from tvm.ir.expr import TensorLoad
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV
from tvm.sym import Analyzer

from ...passes.compute.pairs import PRODUCT
from ...passes.operator_name import operator_name
from .machine import CACHE_LINE_BYTES
from .prefetch import GroupFetch, fetch_line
from .tile_configuration import (
    LEFT,
    SUMS,
    Configuration,
    full_tiles,
    in_every_thread,
    load_configuration,
    low_tiles,
    right_operands,
)

TILE_LANES = 16
INTS_A_LINE = CACHE_LINE_BYTES // 4
_MARK = "relaxc.amx_tiles"
_DATA_PARALLEL = tirx.IterVar.DataPar


@dataclass(frozen=True)
class TilePlan:
    """How a block becomes tiles.

    Attributes:
        rows, row_tiles: so many tiles of so many rows at once.
        pairs: of a row, in a step.
        slack: by how many rows the sums are declared larger than the result; 0 if no part goes beyond it.
        row_axis, panel_axis: which axes of the sums are rows and panels; the last are a panel's columns.
        sweep_rows: rows that meet some panels before the next panels; 0 if those need not be fetched early.
    """

    rows: int
    row_tiles: int
    pairs: int
    slack: int
    row_axis: int
    panel_axis: int
    sweep_rows: int

    @property
    def configuration(self) -> Configuration:
        """That of tiles which all have their full height."""
        return full_tiles(self.rows, self.row_tiles, self.pairs)


def mark_tiles(sch: Schedule, nest: LoopRV, plan: TilePlan) -> None:
    """Has ``nest``, loops around a block of products, one for each of its axes, become tile instructions."""
    sch.annotate(nest, _MARK, list(astuple(plan)))


def insert_tile_instructions(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function``, scheduled, with the instructions in the place of marked loops."""

    def configure(loop: tirx.For) -> tirx.Stmt:
        plans = [_plan_of(inner) for inner in _found(loop.body, tirx.For) if _MARK in inner.annotations]
        if loop.kind != tirx.ForKind.PARALLEL or not plans:
            return loop
        return in_every_thread(plans[0].configuration, loop)

    def rewrite(loop: tirx.For) -> tirx.Stmt:
        return TiledProduct.of(loop, _plan_of(loop)).statement() if _MARK in loop.annotations else loop

    return tvm_ffi.structural_map(
        tvm_ffi.structural_map(function, (tirx.For, configure)), (tirx.For, rewrite)
    )


def _plan_of(loop: tirx.For) -> TilePlan:
    return TilePlan(*(int(number) for number in loop.annotations[_MARK]))


@dataclass(frozen=True)
class Axis:
    """An axis of the sums: the variable of the block, its value, and the loop that counts through a part."""

    var: tirx.Var
    value: tirx.Expr
    loop: tirx.Var
    extent: int

    def at(self, offset: tirx.Expr | int) -> tirx.Expr:
        """The value of ``var`` at ``offset`` from the beginning of the part."""
        dtype = str(self.loop.ty.dtype)
        return Analyzer().simplify(_substitute(self.value, {self.loop: _as_index(offset, dtype)}))


@dataclass(frozen=True)
class TiledProduct:
    """Loops that add products to a part of ``sums``.

    Attributes:
        sums: an element of the accumulators.
        left, right: loads of the first element of a left pair, and of a right pair.
        axes: those of the sums.
        reduced: the variables and extents of the axes summed over; the last counts pairs.
    """

    plan: TilePlan
    sums: TensorLoad
    left: TensorLoad
    right: TensorLoad
    axes: Sequence[Axis]
    reduced: Sequence[tuple[tirx.Var, int]]

    @classmethod
    def of(cls, nest: tirx.For, plan: TilePlan) -> TiledProduct:
        """What the marked ``nest`` computes."""
        loops, node = [], nest
        while isinstance(node, tirx.For):
            loops.append((node.loop_var, int(node.extent)))
            node = node.body
        block = node.block
        (product,) = [call for call in _found(block.body, ir.Call) if operator_name(call) == PRODUCT]
        pair, right = product.args
        element = block.writes[0]
        axes = list(zip(block.iter_vars, node.iter_values, loops, strict=True))
        return cls(
            plan=plan,
            sums=tirx.BufferLoad(element.source, [axis.min for axis in element.region]),
            left=_load_of(pair.args[0]),
            right=_load_of(right),
            axes=[Axis(i.var, value, *loop) for i, value, loop in axes if i.iter_type == _DATA_PARALLEL],
            reduced=[(i.var, extent) for i, _, (_, extent) in axes if i.iter_type != _DATA_PARALLEL],
        )

    def statement(self) -> tirx.Stmt:
        """Instructions for all of the part; for less where that goes beyond the result."""
        start, task = self.axes[self.plan.row_axis].at(0), self._extent(self.plan.row_axis)
        if not self.plan.slack:
            return self._with_whole_part(self._rows(task))
        extent = Analyzer().simplify(self.sums.source.shape[self.plan.row_axis] - self.plan.slack)
        if not isinstance(extent, tirx.IntImm):
            rest = self._few_rows(extent - start)
        elif int(extent) <= task or int(extent) % task == 0:
            return self._with_whole_part(self._rows(min(task, int(extent))))
        else:
            rest = self._rows(int(extent) % task)
        return self._with_whole_part(tirx.IfThenElse(start + task <= extent, self._rows(task), rest))

    def _rows(self, count: int) -> tirx.Stmt:
        """A known number of rows, no less than a tile's: the last tile may overlap the one before."""
        rows, together = self.plan.rows, self.plan.row_tiles
        offsets = [min(first, count - rows) for first in range(0, count, rows)]
        blocks = count // (rows * together)
        number = tirx.Var("block", "int32")
        regular = [number * (rows * together) + rows * i for i in range(together)]
        if blocks == 1:
            regular = offsets[:together]
        body = [_loop(number, blocks, self._block(regular))] if blocks else []
        left = offsets[blocks * together :]
        return _sequence([*body, self._block(left)] if left else body)

    def _few_rows(self, count: tirx.Expr) -> tirx.Stmt:
        """A number of rows that only the run knows, at most two tiles: in tiles that are less high."""
        assert self.plan.row_tiles == 2
        first, rest = tirx.min(count, self.plan.rows), tirx.max(count - self.plan.rows, 1)
        both, one = self._block([0, self.plan.rows]), self._block([0])
        return tirx.SeqStmt(
            [
                *load_configuration(low_tiles(first, rest, self.plan.pairs)),
                tirx.IfThenElse(count > self.plan.rows, both, one),
                *load_configuration(self.plan.configuration),
            ]
        )

    def _block(self, offsets: Sequence[tirx.Expr | int]) -> tirx.Stmt:
        """Tiles of rows that begin at ``offsets``, and all columns."""
        columns = list(self._columns())
        sums = list(itertools.product(range(len(offsets)), range(len(columns))))
        number = {place: SUMS[i] for i, place in enumerate(sums)}
        return tirx.SeqStmt(
            [
                *(_call("tilezero", _tile(number[place])) for place in sums),
                self._reduction(offsets, columns, number),
                *(self._store(number[row, c], offsets[row], columns[c]) for row, c in sums),
            ]
        )

    def _columns(self) -> Sequence[tuple[int, int]]:
        """(panel, first lane) of each column of tiles."""
        return list(
            itertools.product(
                range(self._extent(self.plan.panel_axis)), range(0, self._extent(-1), TILE_LANES)
            )
        )

    def _extent(self, axis: int) -> int:
        return self.axes[axis].extent

    def _reduction(
        self,
        offsets: Sequence[tirx.Expr | int],
        columns: Sequence[tuple[int, int]],
        number: Mapping[tuple[int, int], int],
    ) -> tirx.Stmt:
        *outer, (pair, pairs) = self.reduced
        loops = [(tirx.Var(var.name, var.ty.dtype), extent) for var, extent in outer]
        step = tirx.Var("step", pair.ty.dtype)
        at = {old: new for (old, _), (new, _) in zip(outer, loops, strict=True)} | {
            pair: step * self.plan.pairs
        }
        loops.append((step, pairs // self.plan.pairs))
        body = [self._load_left(LEFT[i], offset, at) for i, offset in enumerate(offsets)]
        right_tiles = right_operands(self.plan.row_tiles)
        for c, column in enumerate(columns):
            right = right_tiles[c % len(right_tiles)]
            body.append(self._load_right(right, column, at))
            body += [
                _call("tdpbf16ps", _tile(number[row, c]), _tile(LEFT[row]), _tile(right))
                for row in range(len(offsets))
            ]
        statement: tirx.Stmt = tirx.SeqStmt([*body, *self._prefetches(offsets[0], loops)])
        for var, extent in reversed(loops):
            statement = _loop(var, extent, statement)
        return statement

    def _prefetches(self, row: tirx.Expr | int, loops: Sequence[tuple[tirx.Var, int]]) -> list[tirx.Stmt]:
        """Requests, in one step, for its part of the next group of panels."""
        if not self.plan.sweep_rows:
            return []
        steps, panels = math.prod(extent for _, extent in loops), self._extent(self.plan.panel_axis)
        block_rows = self.plan.rows * self.plan.row_tiles
        lines = panels * steps * self.plan.pairs * self._extent(-1) // INTS_A_LINE
        fetch = GroupFetch(lines, steps * -(-self.plan.sweep_rows // block_rows))
        at: tirx.Expr = tirx.floordiv(
            tirx.floormod(self.axes[self.plan.row_axis].at(row), self.plan.sweep_rows), block_rows
        )
        for var, extent in loops:
            at = at * extent + var
        first, *_ = self.right.indices
        panel = _substitute(first, self._place(0, (0, 0))) + panels
        between = [0] * (len(self.right.indices) - 2)
        return [
            fetch_line(tirx.BufferLoad(self.right.source, [panel, *between, line * INTS_A_LINE]))
            for line in fetch.lines_at(at)
        ]

    def _load_left(self, tile: int, row: tirx.Expr | int, at: Mapping[tirx.Var, tirx.Expr]) -> tirx.Stmt:
        address = self._address(self.left, {**at, **self._place(row, (0, 0))})
        return _call("tileloadd64", _tile(tile), address, self._row_stride())

    def _load_right(self, tile: int, column: tuple[int, int], at: Mapping[tirx.Var, tirx.Expr]) -> tirx.Stmt:
        address = self._address(self.right, {**at, **self._place(0, column)})
        stride = 4 * int(self.right.source.shape[-1])
        return _call("tileloadd64", _tile(tile), address, tirx.const(stride, "int64"))

    def _store(self, tile: int, row: tirx.Expr | int, column: tuple[int, int]) -> tirx.Stmt:
        address = self._address(self.sums, self._place(row, column))
        inside = range(self.plan.row_axis + 1, len(self.axes))
        stride = 4 * math.prod(self._extent(axis) for axis in inside)
        return _call("tilestored64", _tile(tile), address, tirx.const(stride, "int64"))

    def _with_whole_part(self, body: tirx.Stmt) -> tirx.Stmt:
        """``body`` behind what does nothing, but shows TVM how far tiles reach, so that their buffer does."""
        last = tirx.BufferLoad(self.sums.source, [axis.at(axis.extent - 1) for axis in self.axes])
        return tirx.SeqStmt([tirx.Evaluate(tirx.address_of(last)), body])

    def _place(self, row: tirx.Expr | int, column: tuple[int, int]) -> dict[tirx.Var, tirx.Expr]:
        """The values of the sums' variables in a row and a column of the part."""
        offsets: list[tirx.Expr | int] = [0] * len(self.axes)
        offsets[self.plan.row_axis], offsets[self.plan.panel_axis], offsets[-1] = row, *column
        return {axis.var: axis.at(offset) for axis, offset in zip(self.axes, offsets, strict=True)}

    def _address(self, load: TensorLoad, values: Mapping[tirx.Var, tirx.Expr]) -> tirx.Expr:
        index = [_substitute(index, values) for index in load.indices]
        return tirx.address_of(tirx.BufferLoad(load.source, index))

    def _row_stride(self) -> tirx.Expr:
        """Bytes from a row of the left operand to the next."""
        row_var = self.axes[self.plan.row_axis].var
        variables = {var for index in self.left.indices for var in _found(index, tirx.Var)}
        places = []
        for row in range(2):
            values = {var: tirx.const(row if var.same_as(row_var) else 0, var.ty.dtype) for var in variables}
            index = [_substitute(_unclamped(index), values) for index in self.left.indices]
            places.append(_flat(index, self.left.source.shape))
        return tirx.const(2 * int(Analyzer().simplify(places[1] - places[0])), "int64")


def _flat(index: Sequence[tirx.Expr], shape: Sequence[tirx.Expr]) -> tirx.Expr:
    place = index[0]
    for position, extent in zip(index[1:], shape[1:], strict=True):
        place = place * extent + position
    return place


def _substitute(expr: tirx.Expr, values: Mapping[tirx.Var, tirx.Expr]) -> tirx.Expr:
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda var: values.get(var, var)))


def _unclamped(index: tirx.Expr) -> tirx.Expr:
    """``index`` where the definition does not clamp it to the last row or step."""
    return tvm_ffi.structural_map(index, (tirx.Min, lambda least: least.a))


def _found(root: Any, kind: type) -> list[Any]:
    found: list[Any] = []

    def visit(node: Any) -> None:
        found.append(node)

    tvm_ffi.structural_walk(root, (kind, visit))
    return found


def _load_of(value: tirx.Expr) -> TensorLoad:
    while operator_name(value) == "tirx.reinterpret":
        value = value.args[0]
    assert isinstance(value, TensorLoad)
    return value


def _tile(number: int) -> tirx.Expr:
    return tirx.const(number, "uint8")


def _call(instruction: str, *operands: tirx.Expr) -> tirx.Stmt:
    return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{instruction}", *operands))


def _sequence(statements: Sequence[tirx.Stmt]) -> tirx.Stmt:
    return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]


def _loop(var: tirx.Var, extent: int, body: tirx.Stmt) -> tirx.Stmt:
    if extent == 1:
        return _substitute(body, {var: tirx.const(0, var.ty.dtype)})
    dtype = var.ty.dtype
    return tirx.For(var, tirx.const(0, dtype), tirx.const(extent, dtype), tirx.ForKind.SERIAL, body)


def _as_index(value: tirx.Expr | int, dtype: str) -> tirx.Expr:
    if isinstance(value, int):
        return tirx.const(value, dtype)
    return value if str(value.ty.dtype) == dtype else tirx.Cast(dtype, value)
