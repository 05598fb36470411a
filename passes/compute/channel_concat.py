"""Concatenation of blocked maps along channels, where parts begin or end within a block.

Blocks fall into units, the largest runs of lanes that no border between parts cuts. All lanes of a unit come
from one part, and lie side by side there, too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from tvm import te, tirx

UNIT = "relaxc.channel_unit"
"""The block attribute by which a template recognises this stage: the lanes of a unit."""
LEAST_UNIT = 4
"""With fewer lanes a unit is no vector any more."""
MOST_UNITS = 64
"""Units are written out one after the other: with more the code would grow too long."""


def lanes_of_unit(channels: Sequence[int], block: int) -> int | None:
    """Lanes of a unit where parts of so many ``channels`` are concatenated; None if that does not pay."""
    unit = math.gcd(block, *channels)
    return unit if unit >= LEAST_UNIT and sum(channels) <= MOST_UNITS * unit else None


def concat_nchwc(parts: Sequence[te.Tensor], channels: Sequence[int], unit: int) -> te.Tensor:
    """[N, ceil(C_i / b), H, W, b] to [N, ceil(C / b), H, W, b], where C is the sum of C_i.

    Lanes behind the last channel are zero.

    Args:
        parts: blocked maps.
        channels: C_i of each.
        unit: what ``lanes_of_unit`` says.
    """
    N, _, H, W, block = parts[0].shape
    units = int(block) // unit
    begins = [begin // unit for begin in itertools.accumulate(channels, initial=0)]

    def place(n: tirx.Var, outer: tirx.Var, h: tirx.Var, w: tirx.Var, lane: tirx.Var) -> tirx.Expr:
        place = outer * units + lane // unit
        value = tirx.const(0, parts[0].dtype)
        for part, begin, end in reversed(list(zip(parts, begins, begins[1:], strict=False))):
            source = place - begin
            loaded = part(n, source // units, h, w, source % units * unit + lane % unit)
            value = tirx.if_then_else(place < end, loaded, value)
        return value

    shape = (N, -(-sum(channels) // int(block)), H, W, block)
    return te.compute(shape, place, name="concat_nchwc", attrs={UNIT: unit})
