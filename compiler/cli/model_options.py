"""The options that decide which kernels a model has, besides ``--shape``: of ``compile`` as of ``tune``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Precision(StrEnum):
    """What ``--precision`` takes."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


TargetOption = Annotated[str, typer.Option(help="A name that relaxc targets lists, or a TVM target in JSON.")]
StaticInputsOption = Annotated[
    Path | None, typer.Option(help="Values of inputs that become constants (.npz).")
]
PrecisionOption = Annotated[Precision, typer.Option(help="Arithmetic to compute in.")]


def parse_target(text: str) -> str | dict[str, Any]:
    """A target's name, or TVM's description of one where the text is a JSON object."""
    if not text.lstrip().startswith("{"):
        return text
    import json

    try:
        description: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not JSON: {error}", param_hint="--target") from None
    return description


def read_arrays(path: Path | None) -> dict[str, Any] | None:
    """The arrays of an .npz file; None if no path is given."""
    if path is None:
        return None
    from ..npz_files import read_npz

    return read_npz(path)
