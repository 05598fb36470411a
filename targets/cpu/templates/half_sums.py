"""Short sums of float16 products, which an anchor adds up in float32.

They are a tile of accumulators like the float32 sums, made anew in each step of these. The inner loop needs
only the short ones in registers; the others wait in the first-level cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from ....passes.compute.half_sums import HALF_SUMS
from .register_kernel import accumulate, loops_below


@dataclass(frozen=True)
class Multiplication:
    """The block that multiplies for an anchor.

    Attributes:
        block: the anchor itself, or the one before it whose float16 sums the anchor adds up.
        terms: products that go into one such sum; 1 without them.
        weight_bytes: that a lane reads in one step of the anchor's reduction.
    """

    block: SBlockRV
    terms: int
    weight_bytes: int


def multiplication_of(sch: Schedule, anchor: SBlockRV) -> Multiplication:
    """Where the products of ``anchor`` are made."""
    short = [block for block in sch.get_producers(anchor) if sch.get(block).name_hint == HALF_SUMS]
    block = short[0] if short else anchor
    terms = math.prod(_reduced_extents(sch, block)) if short else 1
    weights = tvm.DataType(sch.get(block).reads[1].source.dtype)
    return Multiplication(block, terms, terms * int(weights.itemsize))


def accumulate_half_sums(sch: Schedule, anchor: SBlockRV, step: LoopRV) -> None:
    """Makes the float16 sums that ``anchor`` adds up, if it does, in each iteration of ``step``.

    ``step`` is the innermost loop of the reduction of ``anchor``, whose innermost axis holds the lanes.
    """
    made = multiplication_of(sch, anchor)
    if made.terms == 1:
        return
    sch.compute_at(made.block, step, preserve_unit_loops=True)
    loops = loops_below(sch, made.block, step)
    terms, steps = len(_reduced_extents(sch, made.block)), len(_reduced_extents(sch, anchor))
    *tile, lane = loops[: -terms - steps]
    accumulate(sch, made.block, loops[-terms:], [*tile, *loops[-terms - steps : -terms]], lane)


def _reduced_extents(sch: Schedule, block: SBlockRV) -> list[int]:
    """Of the axes that ``block`` reduces; all are known where there are float16 sums."""
    axes = (var for var in sch.get(block).iter_vars if var.iter_type == tirx.IterVar.CommReduce)
    return [int(axis.dom.extent) for axis in axes]
