"""A session as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.atomic_file import atomic_file
from ..runtime.errors import RelaxcError
from .records import Purpose

if TYPE_CHECKING:
    from .session import Session, TaskRow

_WIDTH, _HEIGHT = 280, 120
_SQUARE = 360
_CURVES = 12


@dataclass(frozen=True)
class Curve:
    """The best time of a task over its trials, as an SVG path in a box of ``_WIDTH`` by ``_HEIGHT``.

    Attributes:
        name: of the kernel.
        path: the steps.
        trials: how many.
        slowest, fastest: microseconds at the top and at the bottom of the box.
    """

    name: str
    path: str
    trials: int
    slowest: float
    fastest: float


@dataclass(frozen=True)
class Scatter:
    """Predicted against measured gains in a square.

    Attributes:
        points: x (predicted) and y (measured) in pixels.
        least, most: the gains at the square's lower left and upper right corners.
    """

    points: Sequence[tuple[float, float]]
    least: float
    most: float


def write_report(path: Path, session: Session, algorithms: str = "") -> None:
    """Writes the report, with a line on the choice of ``algorithms``.

    Raises:
        RelaxcError: jinja2 is missing, or the file cannot be written.
    """
    try:
        import jinja2
    except ImportError as error:
        raise RelaxcError(f"the report needs jinja2 ({error}): pip install 'relaxc[tune]'") from error
    from .live_table import summary

    source = files(__package__).joinpath("report.html.j2").read_text()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    rows = session.rows()
    page = environment.from_string(source).render(
        summary=summary(session),
        algorithms=algorithms,
        session=session,
        rows=rows,
        curves=[curve(row) for row in rows if row.state.gains][:_CURVES],
        scatter=scatter(rows),
        failures=_failures(rows),
        width=_WIDTH,
        height=_HEIGHT,
        square=_SQUARE,
    )
    with atomic_file(path) as stream:
        stream.write(page.encode())


def curve(row: TaskRow) -> Curve:
    """The best time of a task after each of its trials."""
    best = [row.default_seconds / gain * 1e6 for gain in (1.0, *row.state.gains)]
    slowest, fastest = best[0], best[-1]
    span = (slowest - fastest) or 1.0
    step = _WIDTH / max(1, len(best) - 1)
    heights = [_HEIGHT * (slowest - time) / span for time in best]
    path = f"M0,{heights[0]:.1f}" + "".join(f"H{i * step:.1f}V{y:.1f}" for i, y in enumerate(heights))
    return Curve(row.state.task.name, path, len(row.state.gains), slowest, fastest)


def scatter(rows: Sequence[TaskRow]) -> Scatter | None:
    """All trials of which something was predicted; None if there were none."""
    pairs = [
        (record.predicted, default.measurement.median / record.candidate.measurement.median)
        for row in rows
        for record in row.state.records
        for default in record.entries[:1]
        if record.purpose is Purpose.TRIAL
        and record.predicted is not None
        and record.candidate.measurement.ok
        and default.measurement.ok
    ]
    if not pairs:
        return None
    least = min(min(pair) for pair in pairs)
    most = max(max(pair) for pair in pairs)
    scale = _SQUARE / ((most - least) or 1.0)
    points = [((x - least) * scale, _SQUARE - (y - least) * scale) for x, y in pairs]
    return Scatter(points, least, most)


def _failures(rows: Sequence[TaskRow]) -> dict[str, int]:
    """How many candidates failed, by how."""
    counts: dict[str, int] = {}
    for row in rows:
        for status, count in row.state.failures.items():
            counts[status] = counts.get(status, 0) + count
    return counts
