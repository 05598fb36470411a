"""The default schedule of a Winograd kernel keeps all cores busy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaxc.passes.lower_winograd_conv2d import Conv2dExtents
from relaxc.targets.cpu.machine import Machine
from relaxc.targets.cpu.templates.winograd_schedule import (
    COST_TOLERANCE,
    WinogradWorkload,
    best_config,
    configs,
    cycles,
    least_cycles,
)
from relaxc.targets.cpu.winograd_costs import choose_tiling, tilings, workload_of

AVX512 = Machine(cores=1, vector_bytes=64, vector_registers=32, features=frozenset({"avx512f"}))
AVX2 = Machine(cores=1, vector_bytes=32, vector_registers=16, features=frozenset({"avx2"}))
SMALL_MAP = WinogradWorkload(tile=4, tiles=25, blocks=1, out_blocks=4, channels=64, lanes=16)
LARGE_MAP = WinogradWorkload(tile=4, tiles=10, blocks=80, out_blocks=4, channels=64, lanes=16)


def on(cores: int) -> Machine:
    return replace(AVX512, cores=cores)


@pytest.mark.parametrize("cores", [2, 4])
def test_cores_share_the_output_channels_of_a_single_block_evenly(cores: int) -> None:
    config = best_config(SMALL_MAP, on(cores))
    assert config.shared
    assert SMALL_MAP.out_blocks // config.tile.vectors % cores == 0


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_cores_share_many_blocks(cores: int) -> None:
    assert not best_config(LARGE_MAP, on(cores)).shared


def test_a_single_core_shares_nothing() -> None:
    assert not best_config(SMALL_MAP, on(1)).shared


@pytest.mark.parametrize("workload", [SMALL_MAP, LARGE_MAP], ids=["small", "large"])
@pytest.mark.parametrize("cores", [1, 2, 3])
def test_more_cores_never_take_longer_and_never_less_than_their_part(
    workload: WinogradWorkload, cores: int
) -> None:
    one, several = (least_cycles(workload, on(count)) for count in (1, cores))
    assert one / cores <= several <= one


def test_the_default_is_near_the_least_estimate() -> None:
    for workload in (SMALL_MAP, LARGE_MAP):
        config = best_config(workload, on(2))
        assert config in list(configs(workload, on(2)))
        assert cycles(workload, config, on(2)) <= (1 + COST_TOLERANCE) * least_cycles(workload, on(2))


def test_a_map_that_many_cores_cannot_share_as_one_block_is_cut_into_several() -> None:
    extents = Conv2dExtents(batch=1, channels=64, out_blocks=4, height=40, width=40)
    blocks = []
    for cores in (1, 16):
        tiling = choose_tiling(extents, on(cores))
        assert tiling in list(tilings(extents))
        blocks.append(workload_of(extents, tiling, on(cores)).expected_blocks)
    assert blocks[0] < blocks[1]


def test_narrow_vectors_take_blocks_that_stay_in_the_second_level_cache() -> None:
    """They go through a block once for each of their many groups of output channels."""
    extents = Conv2dExtents(batch=1, channels=128, out_blocks=16, height=28, width=28)
    tiling = choose_tiling(extents, AVX2)
    assert tiling is not None
    workload = workload_of(extents, tiling, AVX2)
    assert workload.positions * workload.tiles * workload.channels * 4 <= AVX2.l2_bytes // 2
