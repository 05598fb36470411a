"""Products of float16 numbers in that type's own arithmetic, as AVX512-FP16 has it: 32 to a vector.

A float16 sum loses up to half a unit of its last place, 2^-11 of its size, in each step. So only short sums
are taken in float16, each of at most ``MOST_TERMS`` products; they are added up in float32. The error of any
number of products is then at most ``MOST_TERMS`` * 2^-11 * sum |a_i b_i| (Higham, Accuracy and Stability of
Numerical Algorithms, section 4.2, on blocked summation). Of products with random signs it is about
sqrt(MOST_TERMS / 6) * 2^-11 = 0.0011 times the size of the result: three times what rounding the operands to
float16 gives, and half of what rounding them to bfloat16 gives.

To widen a vector of sums and to add it takes seven instructions, so that ``MOST_TERMS`` steps of 32 products
take 39 instructions instead of the 64 of float32. With half as many terms they would take 46.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

MOST_TERMS = 32
FEWEST_TERMS = 8
"""Shorter sums would spend as much on widening as they save."""
HALF_SUMS = "half_sums"
"""Name of the stage that holds the sums in float16; the anchor of its kernel adds them up."""


@dataclass(frozen=True)
class WindowTerms:
    """Which part of a convolution's reduction one float16 sum takes.

    Attributes:
        rows, columns, channels: of the window; a sum has their product as the number of its terms.
    """

    rows: int
    columns: int
    channels: int


def terms_of(extent: tirx.Expr | int, most: int) -> int | None:
    """Into sums of how many terms ``extent`` falls; None where none of a fitting length divides it."""
    if not isinstance(extent, int | tirx.IntImm):
        return None
    lengths = range(min(most, int(extent)), FEWEST_TERMS - 1, -1)
    return next((terms for terms in lengths if int(extent) % terms == 0), None)


def window_terms(R: int, S: int, C: int, most: int) -> WindowTerms | None:
    """As ``terms_of`` for a window of R x S and C channels: columns and rows of few channels go together."""
    if most < C * S or C == 1:
        channels = terms_of(C, most)
        return None if channels is None else WindowTerms(1, 1, channels)
    rows = R if most >= R * S * C else 1
    return WindowTerms(rows, S, C) if rows * S * C >= FEWEST_TERMS else None
