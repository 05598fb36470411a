"""Chains around depthwise convolutions have a choice where one kernel for all is conceivable."""

from __future__ import annotations

from dataclasses import replace

from relaxc.autotune.chain_algorithm_tasks import chain_algorithm_tasks
from relaxc.passes.fuse_separable_conv2d import ChainExtents
from relaxc.targets.cpu.chain_algorithms import APART, FUSED
from relaxc.targets.registry import resolve

_HERE = resolve("x86-64-v4")
TARGET = replace(_HERE, machine=replace(_HERE.machine, cores=2))
LARGE = ChainExtents(1, 16, 96, 24, 112, 112, 56, 56, 3)
SMALL = ChainExtents(1, 64, 384, 64, 14, 14, 14, 14, 3)
NARROW = replace(SMALL, narrow=160, wide=960, out=160, height=7, width=7, out_height=7, out_width=7)


def test_the_cost_model_decides_what_is_default() -> None:
    large, small = chain_algorithm_tasks({LARGE: 1, SMALL: 3}, TARGET)
    assert (large.default, small.default) == (FUSED, APART)
    assert (large.calls, small.calls) == (1, 3)
    assert [len(task.space) for task in (large, small)] == [2, 2]


def test_chains_whose_bands_make_bad_tiles_have_no_choice() -> None:
    assert chain_algorithm_tasks({NARROW: 1}, TARGET) == []


def test_arithmetic_is_that_of_all_three_convolutions() -> None:
    (task,) = chain_algorithm_tasks({LARGE: 1}, TARGET)
    expand, depthwise, project = 112 * 112 * 16 * 96, 56 * 56 * 9 * 96, 56 * 56 * 96 * 24
    assert task.flops == 2 * (expand + depthwise + project)
    assert task.name == "chain 16-96-24 of 112x112"


def test_each_size_has_a_key_of_its_own() -> None:
    first, second = chain_algorithm_tasks({LARGE: 1, replace(LARGE, out=32): 1}, TARGET)
    assert first.kernel != second.kernel
