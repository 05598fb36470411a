"""What the workers do with a generated model."""

from __future__ import annotations

import relaxc
from relaxc.compiler.npz_files import write_npz
from relaxc.compiler.verify.reference import Reference
from relaxc.runtime.errors import RelaxcError

from ..outcome import Outcome, failure
from .generated import Arrays, GeneratedModel
from .judgement import differences, excuse

WRONG, REFUSED = "wrong result", "refused"


def keep_reference(case: GeneratedModel) -> Outcome:
    """Keeps what ONNX Runtime gives; where it refuses the model, onnx's evaluator; where both do, PyTorch."""
    if not case.expected_path.exists():
        incoming = case.path.with_suffix(".incoming.npz")
        write_npz(incoming, _reference_outputs(case))
        incoming.replace(case.expected_path)
    return Outcome(True)


def _reference_outputs(case: GeneratedModel) -> Arrays:
    for reference in Reference:
        try:
            return reference.run(case.model, case.feed)
        except RelaxcError:
            continue
    return case.torch_outputs


def compare(case: GeneratedModel) -> Outcome:
    """Compiles and runs the model, and judges what comes out."""
    try:
        actual = relaxc.compile(case.model).run(case.feed)
    except RelaxcError as error:
        return failure(REFUSED, f"{type(error).__name__}: {error}")
    except Exception as error:
        return failure(f"internal error: {type(error).__name__}", str(error))
    errors = differences(case.expected, actual)
    if not errors:
        return Outcome(True)
    reason = "; ".join(map(str, errors))
    return failure(
        excuse(case.model, case.feed, case.expected, actual, [case.torch_outputs]) or WRONG, reason
    )
