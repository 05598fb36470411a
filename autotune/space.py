"""A template's finite space of schedules, as the search sees it: points numbered from 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from .measurement import Knobs

Matrix: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


class SearchSpace:
    """Points, each a value for every knob. Knobs may constrain each other: not every combination is there.

    Attributes:
        names: of the knobs.
        points: ``[points, knobs]``, the values.
    """

    def __init__(self, points: Iterable[Knobs]) -> None:
        listed = list(points)
        self.names: tuple[str, ...] = tuple(listed[0])
        self.points: Matrix = np.array([list(point.values()) for point in listed], np.int64)
        self.points = self.points.reshape(len(listed), len(self.names))
        self._index = {tuple(row): i for i, row in enumerate(self.points.tolist())}

    def __len__(self) -> int:
        return len(self.points)

    def knobs(self, point: int) -> dict[str, int]:
        """The values of a point by name."""
        return dict(zip(self.names, self.points[point].tolist(), strict=True))

    def find(self, knobs: Knobs) -> int | None:
        """The point with these values, if there is one."""
        if knobs.keys() != set(self.names):
            return None
        return self._index.get(tuple(knobs[name] for name in self.names))

    def nearest(self, knobs: Knobs, generator: np.random.Generator) -> int:
        """A point that differs least from ``knobs``, which may be of another kernel of the same template."""
        wanted = [knobs.get(name, 0) for name in self.names]
        return self._closest(np.log2(np.array(wanted) + 1.0), np.arange(len(self)), generator)

    def mutate(self, point: int, generator: np.random.Generator) -> int:
        """A point near ``point`` of which one knob, drawn at random, has another value."""
        free = [column for column, values in enumerate(self._values) if len(values) > 1]
        if not free:
            return point
        column = int(generator.choice(free))
        others = self._values[column][self._values[column] != self.points[point, column]]
        allowed = np.flatnonzero(self.points[:, column] == generator.choice(others))
        return self._closest(self._logarithms[point], allowed, generator)

    def neighbours(self, point: int) -> list[int]:
        """All points that differ from ``point`` in one knob."""
        differing = (self.points != self.points[point]).sum(axis=1)
        return [int(other) for other in np.flatnonzero(differing == 1)]

    def cross(self, a: int, b: int, generator: np.random.Generator) -> int:
        """A point near one that has each knob from ``a`` or from ``b``."""
        mask = generator.random(len(self.names)) < 0.5
        wanted = np.where(mask, self._logarithms[a], self._logarithms[b])
        return self._closest(wanted, np.arange(len(self)), generator)

    @cached_property
    def _logarithms(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Knobs are mostly sizes: that 8 is as far from 16 as 16 from 32 is what their logarithms say."""
        logarithms: np.ndarray[Any, np.dtype[np.float64]] = np.log2(self.points + 1.0)
        return logarithms

    @cached_property
    def _values(self) -> Sequence[Matrix]:
        return [np.unique(column) for column in self.points.T]

    def _closest(self, wanted: np.ndarray[Any, Any], allowed: Matrix, generator: np.random.Generator) -> int:
        distances = np.abs(self._logarithms[allowed] - wanted).sum(axis=1)
        return int(generator.choice(allowed[distances <= distances.min() + 1e-9]))
