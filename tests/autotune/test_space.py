"""The space as the search walks through it."""

from __future__ import annotations

import numpy as np

from relaxc.autotune.space import SearchSpace

# Rows times vectors is at most 16, as in a register file.
SPACE = SearchSpace({"rows": r, "vectors": v} for r in range(1, 17) for v in (1, 2, 4) if r * v <= 16)


def test_points_have_numbers() -> None:
    assert SPACE.knobs(0) == {"rows": 1, "vectors": 1}
    assert all(SPACE.find(SPACE.knobs(point)) == point for point in range(len(SPACE)))
    assert SPACE.find({"rows": 16, "vectors": 4}) is None


def test_a_mutation_changes_a_knob_and_stays_in_the_space() -> None:
    generator = np.random.default_rng(0)
    start = SPACE.find({"rows": 16, "vectors": 1})
    assert start is not None
    for _ in range(50):
        child = SPACE.knobs(SPACE.mutate(start, generator))
        assert child != {"rows": 16, "vectors": 1}
        # Four vectors leave room for four rows only: the nearest point with them is taken.
        assert child["vectors"] != 4 or child["rows"] == 4


def test_a_cross_lies_between_its_parents() -> None:
    generator = np.random.default_rng(0)
    a, b = SPACE.find({"rows": 2, "vectors": 1}), SPACE.find({"rows": 8, "vectors": 2})
    assert a is not None
    assert b is not None
    children = [SPACE.knobs(SPACE.cross(a, b, generator)) for _ in range(40)]
    assert {tuple(child.values()) for child in children} == {(2, 1), (2, 2), (8, 1), (8, 2)}


def test_the_nearest_point_to_a_schedule_of_another_space() -> None:
    point = SPACE.nearest({"rows": 28, "vectors": 1}, np.random.default_rng(0))
    assert SPACE.knobs(point) == {"rows": 16, "vectors": 1}


def test_a_space_without_knobs_has_one_point() -> None:
    assert len(SearchSpace([{}])) == 1
