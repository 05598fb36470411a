"""The option ``--shape x:1,3,224,224``, which several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

Shapes = dict[str, tuple[int, ...]]

ShapeOption = Annotated[
    list[str],
    typer.Option("--shape", metavar="NAME:D,D,...", help="Shape of an input; may be given several times."),
]


def parse_shapes(texts: Sequence[str]) -> Shapes:
    """Shapes by input name. Raises typer.BadParameter (exit code 2) for text of another form."""
    return dict(map(_parse, texts))


def _parse(text: str) -> tuple[str, tuple[int, ...]]:
    # Names may hold colons themselves, as TensorFlow's do ("input:0").
    name, separator, extents = text.rpartition(":")
    parts = [part.strip() for part in extents.split(",")] if extents.strip() else []
    if not separator or not name or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(
            f"{text!r} is not NAME:D,D,...; for example x:1,3,224,224", param_hint="--shape"
        )
    return name, tuple(map(int, parts))
