"""What becomes of a generated model: does relaxc agree with the reference, and if not, whose fault is it?

A difference is excused, and counted by its excuse, where the reference's own result is not certain: its
roundings decide (``unstable``); it takes a value that is read twice to be the same to the last bit, where a
compiler may compute it twice (``recomputed``); an operation without a defined result was met (``undefined``);
or another reference disagrees with it and agrees with relaxc (``disputed``). All else is a wrong result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from relaxc.compiler.verify.first_drift import all_values
from relaxc.compiler.verify.output_error import OutputError, Tolerance, compare_outputs
from relaxc.compiler.verify.reference import Reference
from relaxc.runtime.errors import RelaxcError

from .sensitivity import instability, noisy_variants
from .undefined import undefined_nodes

Arrays = Mapping[str, Any]

UNSTABLE, RECOMPUTED, UNDEFINED, DISPUTED = "unstable", "recomputed", "undefined", "disputed"
EXCUSES = (UNSTABLE, RECOMPUTED, UNDEFINED, DISPUTED)

# Several roundings' worth, by element type; integers must be equal.
_TOLERANCES = {
    "float16": Tolerance(rtol=4e-3, atol=1e-3),
    "float32": Tolerance(rtol=1e-3, atol=1e-4),
    "float64": Tolerance(rtol=1e-9, atol=1e-10),
}
_EQUAL = Tolerance(rtol=0, atol=0)

# How many times as far as the draws are apart a result may be from the reference's: errors of polynomials and
# of long sums are larger than the noise.
_SLACK = 16


def differences(expected: Arrays, actual: Arrays) -> list[OutputError]:
    """The outputs that disagree. Integers must be equal; floating-point numbers may differ by rounding."""
    return [
        error
        for name in dict.fromkeys([*expected, *actual])
        for error in compare_outputs(_only(expected, name), _only(actual, name), _tolerance(expected, name))
        if not error.agrees
    ]


def excuse(
    model: onnx.ModelProto, feed: Arrays, expected: Arrays, actual: Arrays, opinions: Iterable[Arrays] = ()
) -> str:
    """One of ``EXCUSES`` for outputs that differ, or nothing.

    Args:
        model: without subgraphs.
        feed: its inputs.
        expected: the reference's outputs.
        actual: relaxc's.
        opinions: what others compute.
    """
    if any(not differences(opinion, actual) for opinion in opinions):
        return DISPUTED
    reference = _able_reference(model, feed)
    if reference is None or any(error.difference_in_kind for error in differences(expected, actual)):
        return ""
    values = all_values(model, feed, reference)
    if undefined_nodes(model, values):
        return UNDEFINED
    for every_use, name in ((False, UNSTABLE), (True, RECOMPUTED)):
        variants = noisy_variants(model, values, every_use)
        draws = [reference.run(variant, feed) for variant in variants]
        if _explained(expected, actual, draws):
            return name
    return DISPUTED if reference is Reference.ONNXRUNTIME and _evaluator_agrees(model, feed, actual) else ""


def _able_reference(model: onnx.ModelProto, feed: Arrays) -> Reference | None:
    for reference in Reference:
        with contextlib.suppress(RelaxcError):
            reference.run(model, feed)
            return reference
    return None


def _only(values: Arrays, name: str) -> Arrays:
    return {name: values[name]} if name in values else {}


def _tolerance(expected: Arrays, name: str) -> Tolerance:
    return _TOLERANCES.get(np.asarray(expected.get(name)).dtype.name, _EQUAL)


def _explained(expected: Arrays, actual: Arrays, draws: list[dict[str, Any]]) -> bool:
    """Whether the noise of rounding moves every element that differs about as far."""
    for error in differences(expected, actual):
        wanted = np.asarray(expected[error.name])
        spread = instability(wanted, [draw[error.name] for draw in draws])
        if not _within(
            wanted, np.asarray(actual[error.name]), _SLACK * spread, _tolerance(expected, error.name)
        ):
            return False
    return True


def _within(reference: Any, actual: Any, spread: Any, tolerance: Tolerance) -> bool:
    wanted, got = reference.astype(np.float64), actual.astype(np.float64)
    with np.errstate(all="ignore"):
        allowed = spread + tolerance.atol + tolerance.rtol * np.abs(wanted)
        close = np.abs(got - wanted) <= allowed
    alike = (np.isnan(wanted) & np.isnan(got)) | (wanted == got)
    return bool(np.all(close | alike | np.isinf(spread)))


def _evaluator_agrees(model: onnx.ModelProto, feed: Arrays, actual: Arrays) -> bool:
    try:
        return not differences(Reference.ONNX.run(model, feed), actual)
    except RelaxcError:
        return False
