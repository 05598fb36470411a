"""What a run of the fuzzer found, for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from ..outcome import Outcome

_NAMED = 8


def print_summary(title: str, outcomes: Mapping[str, Outcome], excuses: Sequence[str]) -> None:
    """A row for every way in which a case ended, with a few of its names.

    Args:
        title: of the table.
        outcomes: by the case's name.
        excuses: causes that are not relaxc's fault.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name, outcome in outcomes.items():
        names["passed" if outcome.passed else outcome.cause].append(name)
    grid = Table("ended in", "cases", "failure", "such as", title=title)
    for cause, count in Counter({cause: len(of_cause) for cause, of_cause in names.items()}).most_common():
        passed = cause == "passed"
        verdict = "" if passed else "no" if cause in excuses else "yes"
        grid.add_row(cause, str(count), verdict, "" if passed else " ".join(names[cause][:_NAMED]))
    Console(width=None if Console().is_terminal else 110).print(grid)


def failures(outcomes: Mapping[str, Outcome], excuses: Sequence[str]) -> list[str]:
    """The names of the cases that failed without an excuse."""
    return [name for name, outcome in outcomes.items() if not outcome.passed and outcome.cause not in excuses]
