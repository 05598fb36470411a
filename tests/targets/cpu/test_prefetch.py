"""A tile asks for its part of the next weights, at most one cache line in a step."""

from __future__ import annotations

import re

import pytest
import tvm
from tvm import te, tirx

from relaxc.passes.compute.matmul import matmul_batched, matmul_packed
from relaxc.passes.compute.winograd import Tiling, winograd_conv2d_nchwc
from relaxc.targets.cpu.prefetch import PanelSweep, PositionSweep, RowTiles
from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.registry import resolve


def sweep(tiles: int, panels: int = 2, steps: int = 768) -> PanelSweep:
    return PanelSweep(2, panels, steps, 64, (RowTiles(1, 8, tiles),))


def prefetches(function: tirx.PrimFunc) -> list[str]:
    scheduled = schedule_kernel(function, resolve("x86-64-v4").machine).function
    return re.findall(r'"llvm\.prefetch", T\.address_of\((\w+)\[', tvm.IRModule({"f": scheduled}).script())


def product(rows: int) -> tirx.PrimFunc:
    x, w = te.placeholder((1, rows, 768), name="x"), te.placeholder((48, 768, 16), name="w")
    return te.create_prim_func([x, w, matmul_packed(x, w, 768)])


@pytest.mark.parametrize("tiles", [2, 5, 16, 48])
def test_the_tiles_of_a_sweep_fetch_the_whole_next_group(tiles: int) -> None:
    assert sweep(tiles).lines_per_tile * tiles >= 2 * 768


@pytest.mark.parametrize(
    ("sweep", "gains"),
    [
        (sweep(16), True),
        (sweep(1), False),  # more than a line a step would be needed
        (sweep(49), False),  # waiting is a small part of so many tiles
        (sweep(16, panels=1, steps=32), False),  # the processor's own prefetcher does well
    ],
)
def test_prefetching_is_for_sweeps_that_gain(sweep: PanelSweep, gains: bool) -> None:
    assert sweep.gains_from_prefetching is gains


def test_a_product_fetches_its_weights() -> None:
    assert prefetches(product(128)) == ["w"]


def test_a_product_of_few_rows_does_not() -> None:
    assert prefetches(product(4)) == []


def test_what_a_kernel_packs_itself_is_in_cache() -> None:
    a, b = te.placeholder((1, 128, 768), name="a"), te.placeholder((1, 768, 768), name="b")
    product = matmul_batched(a, b, (0, 1, 2), (0, 1, 2), 16)
    assert prefetches(te.create_prim_func([a, b, product])) == []


@pytest.mark.parametrize(("tiles", "panels"), [(1, 2), (2, 2), (5, 2), (3, 1), (7, 4)])
def test_the_tiles_of_a_position_fetch_all_of_the_next_one(tiles: int, panels: int) -> None:
    sweep = PositionSweep(1, panels, 256, 64, RowTiles(6, 8, tiles))
    assert sweep.lines_per_tile * tiles >= panels * sweep.lines_per_panel == panels * 256
    assert sweep.lines_per_step * sweep.steps >= sweep.lines_per_tile


def winograd(rows: int) -> tirx.PrimFunc:
    """A convolution of one block of ``rows`` times ``rows`` tiles of 4."""
    x = te.placeholder((1, 8, rows * 4, rows * 4, 16), name="x")
    u = te.placeholder((8, 36, 128, 16), name="u")
    result = winograd_conv2d_nchwc(x, u, Tiling(4, rows * rows), (1, 1, 1, 1))
    return te.create_prim_func([x, u, result])


@pytest.mark.parametrize(("rows", "fetched"), [(4, 1), (9, 0)], ids=["few tiles", "many tiles"])
def test_winograds_convolution_fetches_the_filters_of_the_next_position(rows: int, fetched: int) -> None:
    assert prefetches(winograd(rows)).count("u") == fetched


def test_winograds_transforms_fetch_each_pixel_of_a_later_tile() -> None:
    fetched = prefetches(winograd(rows=4))
    assert fetched.count("x") == 4 * 4
    assert fetched.count("crop") == 4 * 4
