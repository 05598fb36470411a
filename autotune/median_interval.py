"""The confidence interval of a median, from order statistics.

They assume no distribution (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, section 3.6).
"""

from __future__ import annotations

import math

_NORMAL_95 = 1.96


def lower_rank(n: int) -> int | None:
    """Which of ``n`` values in order is the lower end of their median's interval; None if too few."""
    rank = math.floor((n - _NORMAL_95 * math.sqrt(n)) / 2)
    return rank if n >= 6 and rank >= 0 else None
