"""The configuration of AMX's tiles: which tile holds what, and how many of its rows are in use.

The eight tiles have fixed parts: four hold sums, two operands from the left, two from the right; where a
single tile of rows meets four of columns, one more from the right. Setting the configuration clears all tiles
and is slow, so a thread does it once for its part of a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import tirx

SUMS, LEFT, RIGHT = (0, 1, 2, 3), (4, 5), (6, 7)
_PALETTE, _ROW_BYTES, _WORDS = 1, 64, 8
_THREAD_BEGINS = "pragma_parallel_launch_point"

Configuration = Sequence[tirx.Expr]
"""The 64 bytes of a configuration as eight integers (palette 1)."""


def right_operands(row_tiles: int) -> tuple[int, ...]:
    """The tiles that hold operands from the right where ``row_tiles`` tiles of rows meet them."""
    return RIGHT if row_tiles > 1 else (*RIGHT, LEFT[1])


def full_tiles(rows: int, row_tiles: int, pairs: int) -> Configuration:
    """All tiles of rows have ``rows`` of them, of ``pairs`` pairs."""
    right = right_operands(row_tiles)
    return _configuration({tile: rows for tile in (*SUMS, *LEFT) if tile not in right}, right, pairs)


def low_tiles(first: tirx.Expr, second: tirx.Expr, pairs: int) -> Configuration:
    """Two tiles of rows meet two of columns, and have ``first`` and ``second`` rows."""
    rows = {SUMS[0]: first, SUMS[1]: first, LEFT[0]: first, SUMS[2]: second, SUMS[3]: second, LEFT[1]: second}
    return _configuration(rows, RIGHT, pairs)


def _configuration(rows: Mapping[int, tirx.Expr | int], right: Sequence[int], pairs: int) -> Configuration:
    rows = {**rows, **dict.fromkeys(right, pairs)}
    bytes_of = {tile: _ROW_BYTES if tile in SUMS or tile in right else 4 * pairs for tile in rows}
    widths = [sum(bytes_of[4 * half + tile] << 16 * tile for tile in range(4)) for half in range(2)]
    last: tirx.Expr = tirx.const(0, "int64")
    for tile, count in rows.items():
        wide = tirx.const(count, "int64") if isinstance(count, int) else tirx.Cast("int64", count)
        last = last + wide * tirx.const(1 << 8 * tile, "int64")
    words = [_PALETTE, 0, *widths, 0, 0]
    return [*(tirx.const(word, "int64") for word in words), last, tirx.const(0, "int64")]


def load_configuration(configuration: Configuration) -> list[tirx.Stmt]:
    """Statements that set it for the thread that runs them."""
    memory = tirx.decl_buffer((_WORDS,), "int64", "tile_configuration", scope="local")
    stores = [tirx.BufferStore(memory, word, [i]) for i, word in enumerate(configuration)]
    address = tirx.address_of(tirx.BufferLoad(memory, [0]))
    return [tirx.AllocBuffer(memory), *stores, _instruction("ldtilecfg", address)]


def in_every_thread(configuration: Configuration, loop: tirx.For) -> tirx.Stmt:
    """The parallel ``loop``, before which each thread sets the configuration, and gives it back behind it."""
    body = tirx.SeqStmt([*load_configuration(configuration), loop, _instruction("tilerelease")])
    if isinstance(loop.extent, tirx.IntImm) and int(loop.extent) == 1:
        return body  # TVM makes no threads for a single iteration.
    return tirx.AttrStmt(tirx.const(0, "int32"), _THREAD_BEGINS, tirx.const(1, "int32"), body)


def _instruction(name: str, *operands: tirx.Expr) -> tirx.Stmt:
    return tirx.Evaluate(tirx.call_llvm_intrin("void", f"llvm.x86.{name}", *operands))
