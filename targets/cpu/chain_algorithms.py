"""The algorithms that a chain around a depthwise convolution can go by, as choices for the tuner.

A kernel for each convolution, or one for all: which is faster depends on how soon a core finds what another
one wrote, which the cost model only guesses.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...passes.fuse_separable_conv2d import ChainExtents
from .kernel_identity import KernelIdentity, identify_operator
from .machine import Machine
from .separable_costs import choose_chain, is_tileable
from .templates.conv2d import Conv2dTemplate
from .templates.depthwise_conv2d import DepthwiseConv2dTemplate
from .templates.separable_conv2d import SeparableConv2dTemplate

CHOICE = "chain_algorithm"
"""What records call a choice of this kind, in the place of a template."""
VERSION = (
    100 * Conv2dTemplate.version + 10 * DepthwiseConv2dTemplate.version + SeparableConv2dTemplate.version
)
"""Changes with the templates whose kernels were compared."""
APART, FUSED = {"fused": 0}, {"fused": 1}


def algorithms(extents: ChainExtents, machine: Machine) -> list[Mapping[str, int]]:
    """What is worth measuring, the cost model's choice first."""
    if choose_chain(extents, machine):
        return [FUSED, APART]
    return [APART, FUSED] if is_tileable(extents, machine) else [APART]


def algorithm_knobs(fused: bool) -> Mapping[str, int]:
    """An algorithm as names and integers."""
    return FUSED if fused else APART


def is_fused(knobs: Mapping[str, int]) -> bool:
    """The inverse of ``algorithm_knobs``.

    Raises:
        ValueError: no algorithm is called so.
    """
    if knobs not in (APART, FUSED):
        raise ValueError(f"{dict(knobs)} is no algorithm of chains")
    return knobs == FUSED


def identify_choice(extents: ChainExtents) -> KernelIdentity:
    """The key under which records keep the choice."""
    return identify_operator(CHOICE, VERSION, extents)
