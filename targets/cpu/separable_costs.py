"""When a chain around a depthwise convolution is faster as one kernel.

The model counts cycles of one core. Kernels of their own write the wide maps and read them again: what
exceeds the second-level cache, or was written by another core, comes from the last cache. One kernel for all
computes the rows at the borders of its bands twice, and every core reads all weights for each of its bands.
Where bands are no multiple of the cores, some of these wait for the others.
"""

from __future__ import annotations

from ...passes.fuse_separable_conv2d import ChainExtents
from .machine import Machine
from .templates.register_tile import LEAST_CHAINS
from .templates.separable_conv2d import (
    BAND_SHARE,
    SeparableConfig,
    SeparableConv2dTemplate,
    SeparableWorkload,
    band_bytes,
    imbalance,
    wide_rows,
)

CACHED_BYTES = 16.0
"""Bytes that a cycle brings from the last cache: maps that were evicted or that other cores wrote."""
CLEAR_GAIN = 2.0
"""By what factor the estimate of what fusion saves must exceed that of what it costs."""
_FMA_UNITS = 2


def choose_chain(extents: ChainExtents, machine: Machine) -> bool:
    """Whether one kernel is clearly faster, for maps that do not stay in the second-level cache."""
    workload = _workload(extents, machine)
    config = SeparableConv2dTemplate().default(workload, machine)
    if _wide_bytes(workload, extents) <= machine.l2_bytes or not _fits(workload, config, machine):
        return False
    return _saved_cycles(workload, extents, machine) > CLEAR_GAIN * _added_cycles(workload, config, machine)


def is_tileable(extents: ChainExtents, machine: Machine) -> bool:
    """Whether one kernel is worth measuring: a band of the chain stays in the cache, in good tiles."""
    workload = _workload(extents, machine)
    return _fits(workload, SeparableConv2dTemplate().default(workload, machine), machine)


def _workload(extents: ChainExtents, machine: Machine) -> SeparableWorkload:
    lanes = machine.lanes("float32")
    return SeparableWorkload(
        images=extents.images,
        height=extents.out_height,
        width=extents.out_width,
        in_width=extents.width,
        stride=round(extents.height / extents.out_height),
        window_rows=extents.window_rows,
        narrow=extents.narrow,
        wide_blocks=-(-extents.wide // lanes),
        wide=extents.wide,
        out_blocks=-(-extents.out // lanes),
        lanes=lanes,
    )


def _fits(workload: SeparableWorkload, config: SeparableConfig, machine: Machine) -> bool:
    """Whether a band stays in the cache and its extents allow for good tiles."""
    accumulators = config.project_rows * config.project_vectors
    if workload.narrow:
        accumulators = min(accumulators, config.expand_rows * config.expand_vectors)
    return (
        band_bytes(workload, config.bands) <= BAND_SHARE * machine.l2_bytes
        and accumulators >= LEAST_CHAINS
        and config.columns >= machine.vector_registers // 4
    )


def _wide_bytes(workload: SeparableWorkload, extents: ChainExtents) -> int:
    """Of the wide maps of an image that are not written as a whole when the chain is one kernel."""
    read = extents.height * extents.width if workload.narrow else 0
    pixels = read + extents.out_height * extents.out_width
    return pixels * workload.wide_blocks * workload.lanes * 4


def _saved_cycles(workload: SeparableWorkload, extents: ChainExtents, machine: Machine) -> float:
    return workload.images * _wide_bytes(workload, extents) / (CACHED_BYTES * machine.cores)


def _added_cycles(workload: SeparableWorkload, config: SeparableConfig, machine: Machine) -> float:
    """Of the busiest core."""
    bands = workload.images * config.bands / machine.cores
    again = max(0, wide_rows(workload, config.bands) - workload.height // config.bands * workload.stride)
    products = again * workload.in_width * workload.narrow * workload.wide_blocks / _FMA_UNITS
    weights = (workload.narrow + workload.out_blocks * workload.lanes) * workload.wide * 4
    second = weights / CACHED_BYTES if weights > machine.l2_bytes * (1 - BAND_SHARE) else 0.0
    idle = imbalance(workload, config.bands, machine) - 1
    return bands * (products + second) + idle * _product_cycles(workload, machine)


def _product_cycles(workload: SeparableWorkload, machine: Machine) -> float:
    """Of the pointwise convolutions, if all cores had as much to do."""
    widened = workload.height * workload.stride * workload.in_width * workload.narrow * workload.wide_blocks
    narrowed = workload.height * workload.width * workload.wide * workload.out_blocks
    return workload.images * (widened + narrowed) / (_FMA_UNITS * machine.cores)
