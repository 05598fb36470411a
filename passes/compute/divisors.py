"""The divisors of an extent: how it can be cut into equal parts."""

from __future__ import annotations

import math


def divisors(number: int) -> list[int]:
    """All positive divisors of ``number``, the smallest first; none of 0."""
    small = [count for count in range(1, math.isqrt(number) + 1) if number % count == 0]
    return sorted({*small, *(number // count for count in small)})
