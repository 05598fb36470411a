"""A batch is computed in groups where maps outgrow the last cache, and whole where weights do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaxc.passes.batch_profile import Run, Step
from relaxc.targets.cpu.batch_costs import MOST_GROUPS, group_images
from relaxc.targets.cpu.machine import Machine

MACHINE = Machine(2, 64, 32, frozenset({"avx512f"}), l3_bytes=32 << 20)
MEGABYTE = 1 << 20


def layer(megabytes: float, *, weights: int = 1000) -> Step:
    """A kernel whose result is half of what it moves."""
    moved = int(megabytes * MEGABYTE)
    return Step(traffic=moved, weights=weights, border=moved // 2, ends=0)


def groups(*steps: Step, batch: int = 8, machine: Machine = MACHINE) -> list[int]:
    return list(group_images(Run(batch, steps), machine))


def test_large_maps_are_computed_in_groups_that_fit() -> None:
    sizes = groups(*[layer(40)] * 6)
    assert len(set(sizes)) == 1
    assert sizes[0] < 8


def test_small_maps_are_computed_all_at_once() -> None:
    assert groups(*[layer(2)] * 6) == [8] * 6


def test_large_weights_are_read_once() -> None:
    assert groups(*[layer(12, weights=10 * MEGABYTE)] * 6) == [8] * 6


def test_a_network_that_narrows_is_split_at_its_beginning_only() -> None:
    sizes = groups(layer(40), layer(50), layer(30), layer(4), *[layer(2, weights=MEGABYTE)] * 4)
    assert sizes[:3] == [sizes[0]] * 3
    assert sizes[0] < 8
    assert sizes[-2:] == [8, 8]


def test_one_large_layer_is_not_worth_the_copies() -> None:
    alone = replace(layer(9), ends=9 * MEGABYTE)
    assert groups(alone) == [8]


def test_groups_do_not_change_where_they_must_not() -> None:
    tied = [replace(layer(2), border=None)] * 3
    assert len(set(groups(layer(40), *tied))) == 1


def test_a_larger_cache_wants_fewer_groups() -> None:
    caches = [4 * MEGABYTE, 32 * MEGABYTE, 256 * MEGABYTE]
    sizes = [groups(*[layer(24)] * 6, machine=replace(MACHINE, l3_bytes=size))[0] for size in caches]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 8


def test_more_cores_want_fewer_groups() -> None:
    sizes = [groups(*[layer(8.5)] * 6, machine=replace(MACHINE, cores=cores))[0] for cores in (2, 16, 128)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


@pytest.mark.parametrize("batch", [2, 6, 7, 48, 64, 97, 1000])
def test_groups_are_equal_and_not_too_many(batch: int) -> None:
    sizes = groups(layer(500), layer(500), layer(0.1), batch=batch)
    assert all(batch % size == 0 and batch // size <= MOST_GROUPS for size in sizes)
