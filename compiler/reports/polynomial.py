"""Amounts that depend on symbolic extents, such as the operations of a model of any batch size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class Polynomial:
    """A sum of products of symbols, with integer coefficients."""

    def __init__(self, terms: Counter[tuple[str, ...]] | None = None) -> None:
        """``terms`` maps each product, as the sorted tuple of its symbols, to its coefficient."""
        self._terms = Counter({symbols: count for symbols, count in (terms or {}).items() if count})

    @classmethod
    def product(cls, factors: Iterable[int | str]) -> Polynomial:
        """The product of numbers and symbols."""
        coefficient, symbols = 1, []
        for factor in factors:
            if isinstance(factor, int):
                coefficient *= factor
            else:
                symbols.append(factor)
        return cls(Counter({tuple(sorted(symbols)): coefficient}))

    def __add__(self, other: Polynomial) -> Polynomial:
        return Polynomial(self._terms + other._terms)

    @property
    def value(self) -> int | None:
        """The number, or None if it depends on symbols."""
        return None if any(self._terms.keys() - {()}) else self._terms[()]

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols that it depends on."""
        return frozenset(symbol for term in self._terms for symbol in term)

    def __str__(self) -> str:
        """Terms with their largest first, such as ``3.64e+09 batch + 1000``."""
        terms = (
            " ".join([f"{count:.4g}", *symbols])
            for symbols, count in sorted(self._terms.items(), key=lambda term: (-term[1], term[0]))
        )
        return " + ".join(terms) or "0"
