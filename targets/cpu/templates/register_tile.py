"""The choice of a register tile: the accumulators that a kernel keeps in vector registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..machine import Machine

MAX_ROWS = 28
"""No tile is taller: the slack that compute definitions leave is 31 rows, and registers end here anyway."""
STACK_BYTES = 1024
"""TVM keeps smaller buffers on the stack, and asks its workspace allocator for others in every iteration."""
MAX_SYMBOLIC_VECTORS = 4
"""A wider tile would overrun a symbolic axis by more than compute definitions allow."""
FMA_CHAINS = 8
"""Independent accumulators that hide the latency of two fused multiply-add units of four cycles each."""


@dataclass(frozen=True)
class RegisterTile:
    """``rows`` broadcast operands times ``vectors`` vector operands."""

    rows: int
    vectors: int


@dataclass(frozen=True)
class TileProblem:
    """What decides a tile.

    Attributes:
        rows: extent of the broadcast axis, None where it is symbolic.
        vectors: extent of the vector axis, in vectors; a tile's width divides it. None where it is symbolic.
        vector_bytes_reused: bytes of vector operands that one vector column of the tile reads, and that
            the next tile reads again; they should stay in the second-level cache.
    """

    rows: int | None
    vectors: int | None
    vector_bytes_reused: int


def tiles(problem: TileProblem, machine: Machine) -> Iterator[RegisterTile]:
    """All tiles on the stack whose accumulators, vector operands and one spare fit in the registers."""
    top = MAX_ROWS if problem.rows is None else min(MAX_ROWS, problem.rows)
    widest = MAX_SYMBOLIC_VECTORS if problem.vectors is None else machine.vector_registers // 2
    for vectors in range(1, widest + 1):
        if problem.vectors is not None and problem.vectors % vectors:
            continue
        registers = min(machine.vector_registers - 1 - vectors, (STACK_BYTES - 1) // machine.vector_bytes)
        room = registers // vectors
        yield from (RegisterTile(rows, vectors) for rows in range(1, min(top, room) + 1))


def best_tile(problem: TileProblem, machine: Machine) -> RegisterTile:
    """The tile with the least estimated time per multiplication; larger ones win ties."""
    return min(
        tiles(problem, machine), key=lambda tile: (_cost(tile, problem, machine), -tile.rows * tile.vectors)
    )


def _cost(tile: RegisterTile, problem: TileProblem, machine: Machine) -> float:
    """Cycles per useful vector multiply-add, for two FMA and two load units.

    The small terms were fitted to measurements of convolutions and products of many shapes: a vector operand
    comes from further away than a broadcast one.
    """
    accumulators = tile.rows * tile.vectors
    cycles = max(accumulators, FMA_CHAINS, tile.rows + tile.vectors) / 2
    useful = accumulators * _utilisation(tile.rows, problem.rows)
    reused = tile.vectors * problem.vector_bytes_reused
    streaming = 0.0 if reused <= machine.l2_bytes // 2 else 0.5 * tile.vectors
    return (cycles + 0.1 * tile.rows + 0.35 * tile.vectors + streaming) / useful


def _utilisation(tile_rows: int, rows: int | None) -> float:
    if rows is None:
        return 1.0
    return rows / (-(-rows // tile_rows) * tile_rows)
