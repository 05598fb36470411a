"""The divisors of an extent."""

from __future__ import annotations

import pytest

from relaxc.passes.compute.divisors import divisors


@pytest.mark.parametrize("number", range(200))
def test_every_number_that_divides_is_found_in_order(number: int) -> None:
    assert divisors(number) == [count for count in range(1, number + 1) if number % count == 0]
