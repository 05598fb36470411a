"""What became of a case."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LONGEST_REASON = 200
_MISMATCHED = re.compile(r"Mismatched elements: (\d+) / (\d+)")
_LARGEST = re.compile(r"Max absolute difference[^:]*: (\S+)")


@dataclass(frozen=True)
class Outcome:
    """The result of one case.

    Attributes:
        passed: all outputs of all data sets are as expected.
        static_inputs: inputs whose values had to be known when compiling.
        cause: why it failed, in a word or two that failures can be grouped by; empty if it passed.
        reason: the same in one line.
        seconds: how long it took.
    """

    passed: bool
    static_inputs: tuple[str, ...] = ()
    cause: str = ""
    reason: str = ""
    seconds: float = 0.0


def failure(cause: str, text: str) -> Outcome:
    """A failed case; the text may be of any length and form."""
    return Outcome(False, cause=cause, reason=_one_line(text))


def wrong_result(error: AssertionError) -> Outcome:
    """A failed comparison, from the many lines in which NumPy tells it."""
    text = str(error)
    if mismatched := _MISMATCHED.search(text):
        largest = _LARGEST.search(text)
        size = f", by up to {largest[1]}" if largest else ""
        return failure("wrong result", f"{mismatched[1]} of {mismatched[2]} elements differ{size}")
    return failure("wrong result", text)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else f"{line[: _LONGEST_REASON - 3]}..."
