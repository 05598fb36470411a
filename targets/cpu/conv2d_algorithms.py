"""The algorithms that a convolution with a window of 3 x 3 can go by, as choices for the tuner.

Which of them is the fastest depends on the convolution's extents far more than on what is fused behind it, so
extents alone are what a choice is made for.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...passes.compute.winograd import Tiling
from ...passes.lower_winograd_conv2d import Conv2dExtents
from .kernel_identity import KernelIdentity, identify_operator
from .machine import Machine
from .templates.conv2d import Conv2dTemplate
from .templates.winograd_conv2d import WinogradConv2dTemplate
from .templates.winograd_schedule import least_cycles
from .winograd_costs import choose_tiling, tilings, workload_of

CHOICE = "conv2d_algorithm"
"""What records call a choice of this kind, in the place of a template."""
VERSION = 10 * Conv2dTemplate.version + WinogradConv2dTemplate.version
"""Changes with the templates whose kernels were compared."""
DIRECT = {"tile": 0, "count": 0}
_MOST_TILINGS = 6


def algorithms(extents: Conv2dExtents, machine: Machine) -> list[Tiling | None]:
    """What is worth measuring, the cost model's choice first: direct convolution (None) and several tilings.

    Tiles are no larger than the cost model would take, or 4: larger ones make larger errors. Extents are
    not guessed.
    """
    default = choose_tiling(extents, machine)
    largest = max(4, default.tile if default else 0)
    costs = {
        tiling: least_cycles(workload_of(extents, tiling, machine), machine)
        for tiling in tilings(extents)
        if tiling.tile <= largest
    }
    best: dict[int, Tiling] = {}
    for tiling in sorted(costs, key=costs.__getitem__):
        best.setdefault(workload_of(extents, tiling, machine).expected_blocks, tiling)
    ordered: list[Tiling | None] = [default, None, *list(best.values())[:_MOST_TILINGS]]
    return list(dict.fromkeys(ordered))


def identify_choice(extents: Conv2dExtents) -> KernelIdentity:
    """The key under which records keep the choice."""
    return identify_operator(CHOICE, VERSION, extents)


def algorithm_knobs(tiling: Tiling | None) -> dict[str, int]:
    """An algorithm as names and integers."""
    return dict(DIRECT if tiling is None else vars(tiling))


def algorithm_of(knobs: Mapping[str, int], extents: Conv2dExtents) -> Tiling | None:
    """The inverse of ``algorithm_knobs``, for a convolution of ``extents``, which are known.

    Raises:
        ValueError: no algorithm for this convolution is called so.
    """
    if dict(knobs) == DIRECT:
        return None
    found = next((tiling for tiling in tilings(extents) if vars(tiling) == dict(knobs)), None)
    if found is None:
        raise ValueError(f"{dict(knobs)} is no algorithm for this convolution")
    return found
