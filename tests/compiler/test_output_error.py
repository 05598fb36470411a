"""Errors of outputs against expected ones, and reduction by delta debugging."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from relaxc.compiler.verify.output_error import Tolerance, compare_arrays, compare_outputs
from relaxc.compiler.verify.reduction import minimal_subset

TIGHT = Tolerance(rtol=0.01, atol=0.0)


def test_errors_are_measured_where_both_are_finite() -> None:
    expected = np.array([1.0, -2.0, 0.0, np.inf, np.nan], np.float32)
    actual = np.array([1.5, -2.0, 0.0, np.inf, np.nan], np.float32)
    error = compare_arrays("y", expected, actual, TIGHT)
    assert (error.max_abs, error.max_rel, error.mismatches, error.elements) == (0.5, 0.5, 1, 5)
    assert error.cosine == pytest.approx(5.5 / np.sqrt(5 * 6.25))
    assert str(error) == "y: 1 of 5 elements, by up to 0.5"


@pytest.mark.parametrize("pair", [(np.inf, -np.inf), (np.nan, 0), (1, np.nan), (0, 1e-3)])
def test_infinities_and_nan_must_be_where_they_belong(pair: tuple[float, float]) -> None:
    assert not compare_arrays("y", np.array(pair[0]), np.array(float(pair[1])), TIGHT).agrees


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16, ml_dtypes.bfloat16])
def test_any_element_type_can_be_compared(dtype: type) -> None:
    value: np.ndarray = np.array([0, 1, 1], dtype)
    assert compare_arrays("y", value, value, TIGHT).agrees
    assert compare_arrays("y", value, value[::-1], TIGHT).mismatches == 2


def test_unsigned_numbers_do_not_wrap_around() -> None:
    error = compare_arrays("y", np.array([2], np.uint8), np.array([1], np.uint8), TIGHT)
    assert (error.max_abs, error.max_rel) == (1.0, 0.5)


def test_empty_outputs_agree() -> None:
    assert compare_arrays("y", np.zeros((0, 3)), np.zeros((0, 3)), TIGHT).agrees


def test_type_and_shape_must_be_equal() -> None:
    error = compare_arrays("y", np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), TIGHT)
    assert error.difference_in_kind == "is float32[3,2], but float32[2,3] was expected"
    assert not compare_arrays("y", np.zeros(2, np.float32), np.zeros(2, np.float64), TIGHT).agrees


def test_sequences_and_absent_values_are_compared_entry_by_entry() -> None:
    one = np.ones(2)
    errors = compare_outputs({"s": [one, one], "absent": None}, {"s": [one], "absent": one}, TIGHT)
    assert [(error.name, error.agrees) for error in errors] == [
        ("s_0", True),
        ("s_1", False),
        ("absent", False),
    ]


@pytest.mark.parametrize("culprits", [{7}, {0, 63}, {5, 6, 40}, set(range(64))])
def test_minimal_subset_finds_what_is_needed(culprits: set[int]) -> None:
    assert set(minimal_subset(range(64), lambda part: culprits <= set(part))) == culprits
