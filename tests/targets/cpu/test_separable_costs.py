"""Chains become one kernel where their wide maps leave the caches and bands repeat little."""

from __future__ import annotations

from dataclasses import replace

from relaxc.passes.fuse_separable_conv2d import ChainExtents
from relaxc.targets.cpu.machine import Machine
from relaxc.targets.cpu.separable_costs import choose_chain

MACHINE = Machine(2, 64, 32, frozenset({"avx512f"}))
LARGE = ChainExtents(1, 16, 96, 24, 112, 112, 56, 56, 3)
"""The second block of MobileNetV2, for a picture of 224 x 224."""


def test_wide_maps_that_leave_the_second_level_cache_stay_within_one_kernel() -> None:
    assert choose_chain(LARGE, MACHINE)
    assert choose_chain(replace(LARGE, narrow=0, wide=32, out=16, out_height=112, out_width=112), MACHINE)


def test_wide_maps_that_fit_get_kernels_of_their_own() -> None:
    assert not choose_chain(ChainExtents(1, 64, 384, 64, 14, 14, 14, 14, 3), MACHINE)
    assert not choose_chain(LARGE, replace(MACHINE, l2_bytes=64 << 20))


def test_expensive_rows_are_not_computed_twice() -> None:
    assert not choose_chain(replace(LARGE, narrow=256, out=256), MACHINE)


def test_maps_whose_extents_have_no_divisors_get_kernels_of_their_own() -> None:
    prime = replace(LARGE, height=113, width=113, out_height=113, out_width=113)
    assert not choose_chain(prime, MACHINE)


def test_few_bands_do_not_keep_many_cores_waiting() -> None:
    assert choose_chain(LARGE, replace(MACHINE, cores=4))
    assert not choose_chain(LARGE, replace(MACHINE, cores=64))
