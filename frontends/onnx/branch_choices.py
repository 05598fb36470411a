"""Decisions about If nodes that only the rest of the model can settle.

Exporters write ``If(dim == 1) then Squeeze else Identity`` for a symbolic ``dim``. The branches' results
differ in rank, so a compiled model can have only one of them. Usually only one fits what follows: the choice
is tried, and taken back if a later node cannot be converted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...runtime.errors import InvalidModelError, ShapeError, StaticInputRequired

_T = TypeVar("_T")
_MAX_ATTEMPTS = 64


class Choices:
    """The branches to take, in the order in which the walk meets undecidable conditions."""

    def __init__(self, given: list[bool]) -> None:
        self.taken: list[bool] = []
        self._given = given

    def next(self) -> bool:
        """Whether to take the then-branch here."""
        position = len(self.taken)
        choice = self._given[position] if position < len(self._given) else True
        self.taken.append(choice)
        return choice


def first_success(attempt: Callable[[Choices], _T]) -> _T:
    """The result of ``attempt`` with the first choices, then-branches first, under which it succeeds.

    Raises what the first attempt raised if all fail.
    """
    first_error: Exception | None = None
    given: list[bool] = []
    for _ in range(_MAX_ATTEMPTS):
        choices = Choices(given)
        try:
            return attempt(choices)
        except (InvalidModelError, ShapeError, StaticInputRequired) as error:
            first_error = first_error or error
            remaining = _next(choices.taken)
            if remaining is None:
                break
            given = remaining
    assert first_error is not None
    raise first_error


def _next(taken: list[bool]) -> list[bool] | None:
    """The next choices in depth-first order, or None after the last."""
    kept = list(taken)
    while kept and not kept[-1]:
        kept.pop()
    return [*kept[:-1], False] if kept else None
