"""AMX instructions in the place of a block that sums products of bfloat16 pairs.

A processor with AMX has eight tiles of sixteen rows of 64 bytes, a configuration that says how much of each
is in use, and tdpbf16ps: rows of 16 pairs times 16 rows of pairs, added to 16 sums a row in float32 (Intel
Architecture Instruction Set Extensions Programming Reference, chapter 3). Every block of tiles sets the
configuration itself and gives it back, so whatever thread runs it has the right one.
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
from tvm.s_tir import SBlock, Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.sym import Analyzer

from ...passes.compute.pairs import PRODUCT

TILE_ROWS, TILE_LANES = 16, 16
PAIRS_A_STEP = 16
_MARK = "relaxc.amx_tiles"
_SUMS, _LEFT, _RIGHT = (0, 1, 2, 3), (4, 5), (6, 7, 5)


@dataclass(frozen=True)
class TilePlan:
    """How a block becomes tiles.

    Attributes:
        rows, row_tiles: so many tiles of so many rows.
        extent: rows of the whole result.
        row_axis, panel_axis: which axes of the sums are rows and panels; the last are a panel's columns.
    """

    rows: int
    row_tiles: int
    extent: int
    row_axis: int
    panel_axis: int


def mark_tiles(sch: Schedule, block: SBlockRV, plan: TilePlan) -> None:
    """Has ``block`` become tile instructions."""
    sch.annotate(block, _MARK, list(astuple(plan)))


def insert_tile_instructions(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """``function``, scheduled, with the instructions in the place of marked blocks."""

    def rewrite(block: SBlock) -> SBlock:
        if _MARK not in block.annotations:
            return block
        plan = TilePlan(*(int(number) for number in block.annotations[_MARK]))
        body = TiledProduct.of(block, plan).statement()
        return SBlock(block.iter_vars, block.reads, block.writes, block.name_hint, body)

    return tvm_ffi.structural_map(function, (SBlock, rewrite))


@dataclass(frozen=True)
class TiledProduct:
    """A block that adds products to a part of ``sums``.

    Attributes:
        sums: an element of the accumulators.
        part: of the accumulators, that the block computes.
        left, right: loads of the first element of a left pair, and of a right pair.
        reduced: the variables and extents of the axes summed over; the last counts pairs.
    """

    plan: TilePlan
    sums: TensorLoad
    part: Sequence[ir.Range]
    left: TensorLoad
    right: TensorLoad
    spatial: Sequence[tirx.Var]
    reduced: Sequence[tuple[tirx.Var, int]]

    @classmethod
    def of(cls, block: SBlock, plan: TilePlan) -> TiledProduct:
        """What the marked ``block`` computes."""
        (inner,) = _found(block.body, SBlock)
        (product,) = [call for call in _found(inner.body, ir.Call) if _is_call(call, PRODUCT)]
        pair, right = product.args
        element = inner.writes[0]
        kinds = tirx.IterVar.DataPar, tirx.IterVar.CommReduce
        spatial, reduced = ([var for var in inner.iter_vars if var.iter_type == kind] for kind in kinds)
        return cls(
            plan=plan,
            sums=tirx.BufferLoad(element.source, [axis.min for axis in element.region]),
            part=list(block.writes[0].region),
            left=_load_of(pair.args[0]),
            right=_load_of(right),
            spatial=[var.var for var in spatial],
            reduced=[(var.var, int(var.dom.extent)) for var in reduced],
        )

    def statement(self) -> tirx.Stmt:
        """Instructions for all of the part; for less where its last tiles go beyond the result."""
        rows, extent = self.plan.rows, self.plan.extent
        step = rows * self.plan.row_tiles
        rest = extent % step
        heights = [min(rows, rest - done) for done in range(0, rest, rows)]
        if extent < step:
            return self._tiles(heights)
        full = self._tiles([rows] * self.plan.row_tiles)
        if not rest:
            return full
        return tirx.IfThenElse(self.part[self.plan.row_axis].min + step <= extent, full, self._tiles(heights))

    def _tiles(self, heights: Sequence[int]) -> tirx.Stmt:
        columns = list(self._columns())
        sums = list(itertools.product(range(len(heights)), range(len(columns))))
        number = {place: _SUMS[i] for i, place in enumerate(sums)}
        offsets = list(itertools.accumulate(heights, initial=0))
        configuration = _configuration(heights, number)
        body = [
            self._whole_part(),
            *(_call("tilezero", _tile(number[place])) for place in sums),
            self._reduction(heights, columns, number),
            *(self._store(number[row, c], offsets[row], columns[c]) for row, c in sums),
            _call("tilerelease"),
        ]
        return _with_configuration(configuration, body)

    def _columns(self) -> Sequence[tuple[int, int]]:
        """(panel, first lane) of each column of tiles."""
        return list(
            itertools.product(
                range(self._extent(self.plan.panel_axis)), range(0, self._extent(-1), TILE_LANES)
            )
        )

    def _extent(self, axis: int) -> int:
        return int(self.part[axis].extent)

    def _reduction(
        self,
        heights: Sequence[int],
        columns: Sequence[tuple[int, int]],
        number: Mapping[tuple[int, int], int],
    ) -> tirx.Stmt:
        *outer, (pair, pairs) = self.reduced
        loops = [(tirx.Var(var.name, var.ty.dtype), extent) for var, extent in outer]
        step = tirx.Var("step", pair.ty.dtype)
        at = {old: new for (old, _), (new, _) in zip(outer, loops, strict=True)} | {pair: step * PAIRS_A_STEP}
        offsets = list(itertools.accumulate(heights, initial=0))
        body = [self._load_left(_LEFT[i], offsets[i], at) for i in range(len(heights))]
        for c, column in enumerate(columns):
            right = _RIGHT[c % (2 if len(heights) > 1 else 3)]
            body.append(self._load_right(right, column, at))
            body += [
                _call("tdpbf16ps", _tile(number[row, c]), _tile(_LEFT[row]), _tile(right))
                for row in range(len(heights))
            ]
        statement = tirx.SeqStmt(body)
        for var, extent in reversed([*loops, (step, pairs // PAIRS_A_STEP)]):
            statement = tirx.For(
                var,
                tirx.const(0, var.ty.dtype),
                tirx.const(extent, var.ty.dtype),
                tirx.ForKind.SERIAL,
                statement,
            )
        return statement

    def _load_left(self, tile: int, row: int, at: Mapping[tirx.Var, tirx.Expr]) -> tirx.Stmt:
        address = self._address(self.left, {**at, **self._place(row, (0, 0))})
        return _call("tileloadd64", _tile(tile), address, self._row_stride())

    def _load_right(self, tile: int, column: tuple[int, int], at: Mapping[tirx.Var, tirx.Expr]) -> tirx.Stmt:
        address = self._address(self.right, {**at, **self._place(0, column)})
        stride = 4 * int(self.right.source.shape[-1])
        return _call("tileloadd64", _tile(tile), address, tirx.const(stride, "int64"))

    def _store(self, tile: int, row: int, column: tuple[int, int]) -> tirx.Stmt:
        address = self._address(self.sums, self._place(row, column))
        inside = range(self.plan.row_axis + 1, len(self.part))
        stride = 4 * math.prod(self._extent(axis) for axis in inside)
        return _call("tilestored64", _tile(tile), address, tirx.const(stride, "int64"))

    def _whole_part(self) -> tirx.Stmt:
        """Does nothing, but TVM sees from it how far the tiles reach, and keeps their buffer large enough."""
        last = [axis.min + axis.extent - 1 for axis in self.part]
        return tirx.Evaluate(tirx.address_of(tirx.BufferLoad(self.sums.source, last)))

    def _place(self, row: int, column: tuple[int, int]) -> dict[tirx.Var, tirx.Expr]:
        """Values for the variables of the sums' axes, of which those of a single element have none."""
        values = dict.fromkeys(self.spatial, 0)
        for axis, value in ((self.plan.row_axis, row), (self.plan.panel_axis, column[0]), (-1, column[1])):
            values |= {var: value for var in _found(self.sums.indices[axis], tirx.Var) if var in values}
        return {var: tirx.const(value, var.ty.dtype) for var, value in values.items()}

    def _address(self, load: TensorLoad, values: Mapping[tirx.Var, tirx.Expr]) -> tirx.Expr:
        index = [_substitute(index, values) for index in load.indices]
        return tirx.address_of(tirx.BufferLoad(load.source, index))

    def _row_stride(self) -> tirx.Expr:
        """Bytes from a row of the left operand to the next."""
        variables = {var for index in self.left.indices for var in _found(index, tirx.Var)}
        rows = _found(self.sums.indices[self.plan.row_axis], tirx.Var)
        places = []
        for row in range(2):
            values = {
                var: tirx.const(row if var in rows and var in self.spatial else 0, var.ty.dtype)
                for var in variables
            }
            index = [_substitute(index, values) for index in self.left.indices]
            places.append(_flat(index, self.left.source.shape))
        return tirx.const(2 * int(Analyzer().simplify(places[1] - places[0])), "int64")


def _flat(index: Sequence[tirx.Expr], shape: Sequence[tirx.Expr]) -> tirx.Expr:
    place = index[0]
    for position, extent in zip(index[1:], shape[1:], strict=True):
        place = place * extent + position
    return place


def _substitute(expr: tirx.Expr, values: Mapping[tirx.Var, tirx.Expr]) -> tirx.Expr:
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda var: values.get(var, var)))


def _found(root: Any, kind: type) -> list[Any]:
    found: list[Any] = []

    def visit(node: Any) -> None:
        found.append(node)

    tvm_ffi.structural_walk(root, (kind, visit))
    return found


def _is_call(expr: tirx.Expr, op: str) -> bool:
    return isinstance(expr, ir.Call) and isinstance(expr.op, ir.Op) and expr.op.name == op


def _load_of(value: tirx.Expr) -> TensorLoad:
    while _is_call(value, "tirx.reinterpret"):
        value = value.args[0]
    assert isinstance(value, TensorLoad)
    return value


def _tile(number: int) -> tirx.Expr:
    return tirx.const(number, "uint8")


def _call(instruction: str, *operands: tirx.Expr) -> tirx.Stmt:
    return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{instruction}", *operands))


def _configuration(heights: Sequence[int], sums: Mapping[tuple[int, int], int]) -> list[int]:
    """The 64 bytes of the configuration as eight integers (palette 1)."""
    rows = {_LEFT[i]: height for i, height in enumerate(heights)}
    rows |= {number: heights[row] for (row, _), number in sums.items()}
    rows |= {tile: TILE_ROWS for tile in _RIGHT if tile not in rows}
    content = bytearray(64)
    content[0] = 1
    for tile, height in rows.items():
        content[16 + 2 * tile] = 64
        content[48 + tile] = height
    return [int.from_bytes(content[i : i + 8], "little", signed=True) for i in range(0, 64, 8)]


def _with_configuration(words: Sequence[int], body: Sequence[tirx.Stmt]) -> tirx.Stmt:
    memory = tirx.decl_buffer((8,), "int64", "tile_configuration", scope="local")
    stores = [tirx.BufferStore(memory, tirx.const(word, "int64"), [i]) for i, word in enumerate(words)]
    load = _call("ldtilecfg", tirx.address_of(tirx.BufferLoad(memory, [0])))
    return tirx.SeqStmt([tirx.AllocBuffer(memory), *stores, load, *body])
