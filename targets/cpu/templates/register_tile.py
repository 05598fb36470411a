"""The choice of a register tile: the accumulators that a kernel keeps in vector registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..machine import Machine

MAX_ROWS = 28
"""No tile is taller: the slack that compute definitions leave is 31 rows, and registers end here anyway."""
MAX_SYMBOLIC_VECTORS = 4
"""A wider tile would overrun a symbolic axis by more than compute definitions allow."""
FMA_CHAINS = 10
"""Independent accumulators that hide the latency of two fused multiply-add units of four to five cycles."""
FEW_REGISTERS = 16
"""So many registers leave room for few accumulators, and small differences between small tiles count."""
LEAST_CHAINS, ENOUGH_CHAINS = 8, 12
"""With fewer accumulators than the first, the units wait even if everything is in the right order."""
CHAIN_CYCLES = 0.1
"""What each accumulator less than ``ENOUGH_CHAINS`` costs in a step, for want of the right order."""
ADDRESSED_ROWS = 8
"""Rows with addresses of their own that the general registers hold: those of a tile that overruns."""
ADDRESS_CYCLES = 0.3
"""To load the address of each further row, in a step."""
COST_TOLERANCE = 0.05
"""Tiles whose estimates differ by less ran equally fast; the smaller of them make less code."""


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
        whole_rows: whether only tiles will do whose height divides ``rows``.
    """

    rows: int | None
    vectors: int | None
    vector_bytes_reused: int
    whole_rows: bool = False


def tiles(problem: TileProblem, machine: Machine) -> Iterator[RegisterTile]:
    """All tiles whose accumulators, vector operands and one spare fit in the registers."""
    top = MAX_ROWS if problem.rows is None else min(MAX_ROWS, problem.rows)
    widest = MAX_SYMBOLIC_VECTORS if problem.vectors is None else machine.vector_registers // 2
    for vectors in range(1, widest + 1):
        if problem.vectors is not None and problem.vectors % vectors:
            continue
        room = (machine.vector_registers - 1 - vectors) // vectors
        heights = range(1, min(top, room) + 1)
        yield from (RegisterTile(rows, vectors) for rows in heights if _fits(rows, problem))


def _fits(rows: int, problem: TileProblem) -> bool:
    return not problem.whole_rows or (problem.rows is not None and problem.rows % rows == 0)


def best_tile(problem: TileProblem, machine: Machine) -> RegisterTile:
    """The smallest tile whose estimated time per multiplication is next to the least."""
    costs = {tile: cycles_per_product(tile, problem, machine) for tile in tiles(problem, machine)}
    enough = (1 + COST_TOLERANCE) * min(costs.values())
    return min(
        (tile for tile, cost in costs.items() if cost <= enough),
        key=lambda tile: (max(tile.rows * tile.vectors, ENOUGH_CHAINS), costs[tile]),
    )


def cycles_per_product(tile: RegisterTile, problem: TileProblem, machine: Machine) -> float:
    """Cycles per useful vector multiply-add, for two FMA and two load units.

    The small terms were fitted to measurements of convolutions and products of many shapes: a vector operand
    comes from further away than a broadcast one.
    """
    accumulators = tile.rows * tile.vectors
    useful = accumulators * _utilisation(tile.rows, problem.rows)
    reused = tile.vectors * problem.vector_bytes_reused
    streaming = 0.0 if reused <= machine.l2_bytes // 2 else 0.5 * tile.vectors
    operands = _operand_cycles(tile, problem, machine)
    return (_issue_cycles(tile, machine) + operands + streaming) / useful


def _issue_cycles(tile: RegisterTile, machine: Machine) -> float:
    accumulators, loads = tile.rows * tile.vectors, tile.rows + tile.vectors
    if machine.vector_registers > FEW_REGISTERS:
        return max(accumulators, FMA_CHAINS, loads) / 2
    return max(accumulators, LEAST_CHAINS, loads) / 2 + CHAIN_CYCLES * max(0, ENOUGH_CHAINS - accumulators)


def _operand_cycles(tile: RegisterTile, problem: TileProblem, machine: Machine) -> float:
    if machine.vector_registers > FEW_REGISTERS:
        return 0.1 * tile.rows + 0.35 * tile.vectors
    own_addresses = problem.rows is not None and problem.rows % tile.rows != 0
    addressed = ADDRESS_CYCLES * max(0, tile.rows - ADDRESSED_ROWS) if own_addresses else 0.0
    return 0.15 * tile.rows + 0.4 * tile.vectors + addressed


def _utilisation(tile_rows: int, rows: int | None) -> float:
    if rows is None:
        return 1.0
    return rows / (-(-rows // tile_rows) * tile_rows)
