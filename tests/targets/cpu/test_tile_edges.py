"""Winograd's transform of the input asks once for a column of a tile whether it lies in the map."""

from __future__ import annotations

import tvm_ffi
from tvm import te, tirx
from tvm.s_tir import SBlock

from relaxc.passes.compute.winograd import Tiling, winograd_conv2d_nchwc
from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.registry import resolve


def column_transforms(padding: tuple[int, int, int, int]) -> list[tirx.BufferStore]:
    """What a scheduled kernel stores as the transform of a column."""
    x = te.placeholder((1, 4, 16, 16, 16), name="x")
    u = te.placeholder((4, 36, 64, 16), name="u")
    result = winograd_conv2d_nchwc(x, u, Tiling(4, 16), padding)
    kernel = te.create_prim_func([x, u, result])
    scheduled = schedule_kernel(kernel, resolve("x86-64-v4").machine).function
    blocks: list[SBlock] = []
    tvm_ffi.structural_walk(scheduled, [(SBlock, blocks.append)])
    return [block.body for block in blocks if block.name_hint == "transform_columns"]


def comparisons(store: tirx.BufferStore, index: tirx.Var) -> int:
    """How many clamped indices of pixels are compared in ``store`` that depend on ``index``."""
    found: list[tirx.EQ] = []
    tvm_ffi.structural_walk(store, [(tirx.EQ, found.append)])
    return sum(index.name in str(node) and "min" in str(node) for node in found)


def test_a_column_outside_of_the_map_is_zero() -> None:
    _, outside = column_transforms((1, 1, 1, 1))
    assert float(outside.value.value) == 0


def test_pixels_of_a_column_inside_are_loaded_if_their_rows_are_in_the_map() -> None:
    inside, _ = column_transforms((1, 1, 1, 1))
    tile, column = inside.indices[3], inside.indices[5]
    assert comparisons(inside, column) == 0
    assert comparisons(inside, tile) > 0
