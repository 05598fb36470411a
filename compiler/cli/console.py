"""Where the commands write: results to standard output, progress to standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

# Wide enough for a kernel's name; a pipe or a file has no width of its own.
_PLAIN_WIDTH = 160


def results() -> Console:
    """The console for results: tables fit the terminal, or are wide where there is none."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def table(*columns: str, numbers_from: int) -> Table:
    """A table whose columns from ``numbers_from`` on are aligned to the right."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        if position < numbers_from:
            grid.add_column(column, overflow="fold")
        else:
            grid.add_column(column, justify="right", no_wrap=True)
    return grid


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Gives a function that says what is going on: a spinner on a terminal, plain lines elsewhere."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda step: print(step, file=sys.stderr, flush=True)
        return
    with console.status("") as status:
        yield status.update
