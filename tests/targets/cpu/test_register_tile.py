"""The choice of register tiles for few and for many registers."""

from __future__ import annotations

import pytest

from relaxc.targets.cpu.machine import Machine
from relaxc.targets.cpu.templates.register_tile import (
    ADDRESSED_ROWS,
    RegisterTile,
    TileProblem,
    best_tile,
    tiles,
)

AVX2 = Machine(cores=1, vector_bytes=32, vector_registers=16, features=frozenset({"avx2"}))
AVX512 = Machine(cores=1, vector_bytes=64, vector_registers=32, features=frozenset({"avx512f"}))


@pytest.mark.parametrize("machine", [AVX2, AVX512], ids=["avx2", "avx512"])
@pytest.mark.parametrize("rows", [1, 7, 49, 196, None])
@pytest.mark.parametrize("vectors", [1, 3, 8, 125, None])
def test_accumulators_operands_and_a_spare_fit_the_registers(
    machine: Machine, rows: int | None, vectors: int | None
) -> None:
    for tile in tiles(TileProblem(rows, vectors, 0), machine):
        assert tile.rows * tile.vectors + tile.vectors + 1 <= machine.vector_registers


def test_few_registers_are_filled() -> None:
    for rows in (196, 784, 3136):
        tile = best_tile(TileProblem(rows, 64, 0), AVX2)
        assert tile.rows * tile.vectors == 12


def test_few_registers_waste_no_rows_on_a_small_map() -> None:
    """49 = 10 x 5 - 1, while 6 x 2 tiles would compute 54 rows."""
    assert best_tile(TileProblem(49, 64, 0), AVX2) == RegisterTile(5, 2)


@pytest.mark.parametrize("rows", [101, 25600, 102400])
def test_a_tall_tile_of_few_registers_overruns_nothing(rows: int) -> None:
    """Each row of one that does has an address of its own, and there are few registers for these, too."""
    tile = best_tile(TileProblem(rows, 1, 0), AVX2)
    assert tile.rows <= ADDRESSED_ROWS or rows % tile.rows == 0
