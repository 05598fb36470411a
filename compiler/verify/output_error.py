"""How far a result is from the reference's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..npz_files import flat

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tolerance:
    """Two numbers agree where ``|actual - expected| <= atol + rtol * |expected|``, or both are NaN."""

    rtol: float = 1e-3
    atol: float = 1e-4


@dataclass(frozen=True)
class OutputError:
    """One output against the reference's.

    Attributes:
        name: the output's; entries of a sequence are numbered.
        form: dtype and shape, such as ``float32[2,3]``.
        max_abs, max_rel: the largest absolute and relative error of finite elements.
        cosine: of the angle between both, as vectors; 1 for equal directions.
        mismatches, elements: how many elements disagree, of how many.
        difference_in_kind: why the two cannot be compared by elements, else empty.
    """

    name: str
    form: str
    max_abs: float = 0.0
    max_rel: float = 0.0
    cosine: float = 1.0
    mismatches: int = 0
    elements: int = 0
    difference_in_kind: str = ""

    @property
    def agrees(self) -> bool:
        return not self.mismatches and not self.difference_in_kind

    def __str__(self) -> str:
        if self.difference_in_kind:
            return f"{self.name}: {self.difference_in_kind}"
        return f"{self.name}: {self.mismatches} of {self.elements} elements, by up to {self.max_abs:.3g}"


def compare_outputs(
    expected: Mapping[str, Any], actual: Mapping[str, Any], tolerance: Tolerance
) -> list[OutputError]:
    """One entry for every tensor among the expected outputs, and for every one that came unexpectedly."""
    wanted, got = dict(flat(expected)), dict(flat(actual))
    missing = [_other_kind(name, wanted[name], "missing") for name in wanted if name not in got]
    surplus = [_other_kind(name, got[name], "not expected") for name in got if name not in wanted]
    both = [compare_arrays(name, wanted[name], got[name], tolerance) for name in wanted if name in got]
    return both + missing + surplus


def compare_arrays(name: str, expected: Array, actual: Array, tolerance: Tolerance) -> OutputError:
    """The error of one tensor; numbers are compared in float64."""
    expected, actual = np.asarray(expected), np.asarray(actual)
    if (expected.dtype, expected.shape) != (actual.dtype, actual.shape):
        return _other_kind(name, actual, f"is {form(actual)}, but {form(expected)} was expected")
    if expected.dtype.kind in "OUST":
        mismatches = int(np.sum(expected != actual))
        return OutputError(name, form(actual), mismatches=mismatches, elements=actual.size)
    return _numeric_error(name, form(actual), _as_float64(expected), _as_float64(actual), tolerance)


def form(array: Array) -> str:
    """Dtype and shape in one word."""
    return f"{array.dtype.name}[{','.join(map(str, array.shape))}]"


def _other_kind(name: str, array: Array, difference: str) -> OutputError:
    return OutputError(name, form(np.asarray(array)), difference_in_kind=difference)


def _as_float64(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _numeric_error(
    name: str, shape: str, expected: Array, actual: Array, tolerance: Tolerance
) -> OutputError:
    close = np.isclose(actual, expected, tolerance.rtol, tolerance.atol, equal_nan=True)
    finite = np.isfinite(expected) & np.isfinite(actual)
    x, y = expected[finite], actual[finite]
    error = np.abs(y - x)
    relative = error[x != 0] / np.abs(x[x != 0])
    return OutputError(
        name,
        shape,
        max_abs=float(error.max(initial=0.0)),
        max_rel=float(relative.max(initial=0.0)),
        cosine=_cosine(x, y),
        mismatches=int(np.sum(~close)),
        elements=expected.size,
    )


def _cosine(x: Array, y: Array) -> float:
    """Scaled first, so that large numbers do not overflow; 1 for two zero vectors."""
    x, y = (v / scale if (scale := np.abs(v).max(initial=0.0)) else v for v in (x, y))
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if not lengths:
        return float(not x.any() and not y.any())
    return float(np.real(np.vdot(x, y)) / lengths)
