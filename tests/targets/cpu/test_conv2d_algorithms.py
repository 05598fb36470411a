"""What the tuner may choose for a convolution, and how records know it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relaxc.passes.compute.winograd import Tiling
from relaxc.passes.lower_winograd_conv2d import Conv2dExtents
from relaxc.targets.cpu.conv2d_algorithms import algorithm_knobs, algorithm_of, algorithms, identify_choice
from relaxc.targets.cpu.winograd_costs import choose_tiling
from relaxc.targets.registry import resolve

LARGE = Conv2dExtents(batch=1, channels=64, out_blocks=4, height=56, width=56)
SMALL = Conv2dExtents(batch=1, channels=64, out_blocks=4, height=3, width=3)


@pytest.mark.parametrize("extents", [LARGE, SMALL], ids=["large", "small"])
def test_the_cost_models_choice_comes_first_and_direct_is_always_there(extents: Conv2dExtents) -> None:
    machine = resolve("x86-64-v4").machine
    offered = algorithms(extents, machine)
    assert offered[0] == choose_tiling(extents, machine)
    assert None in offered
    assert any(offered)
    assert len(set(offered)) == len(offered)


@pytest.mark.parametrize("extents", [LARGE, SMALL], ids=["large", "small"])
def test_no_choice_makes_larger_errors_than_tiles_of_4(extents: Conv2dExtents) -> None:
    assert all(t is None or t.tile == 4 for t in algorithms(extents, resolve("x86-64-v4").machine))


@pytest.mark.parametrize("tiling", [None, Tiling(4, 10), Tiling(6, 3)])
def test_records_hold_an_algorithm_as_integers(tiling: Tiling | None) -> None:
    assert algorithm_of(algorithm_knobs(tiling), LARGE) == tiling


@pytest.mark.parametrize(
    "knobs",
    [
        {"tile": 5, "count": 1},  # no such tile
        {"tile": 4, "count": 65},  # more tiles than a block has
        {"tile": 4},
        {"tile": 4, "count": 1, "unroll": 2},
    ],
)
def test_knobs_that_are_no_algorithm_are_refused(knobs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no algorithm"):
        algorithm_of(knobs, LARGE)


def test_extents_identify_a_choice() -> None:
    assert identify_choice(LARGE) == identify_choice(replace(LARGE))
    assert identify_choice(LARGE) != identify_choice(replace(LARGE, width=57))
