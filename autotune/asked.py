"""What a compilation had to choose algorithms for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Extents = TypeVar("Extents")
Algorithm = TypeVar("Algorithm")


class Asked(Generic[Extents, Algorithm]):
    """Chooses as ``choose`` does, and remembers for which operators it was asked, and how often."""

    def __init__(self, choose: Callable[[Extents], Algorithm]) -> None:
        self._choose = choose
        self.calls: dict[Extents, int] = {}

    def __call__(self, extents: Extents) -> Algorithm:
        """The algorithm for an operator, known by its extents."""
        self.calls[extents] = self.calls.get(extents, 0) + 1
        return self._choose(extents)
