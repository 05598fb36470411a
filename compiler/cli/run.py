"""``relaxc run``: run an artifact once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..sample_inputs import Fill, sample_inputs
from .shape_option import ShapeOption, parse_shapes

if TYPE_CHECKING:
    from ...runtime import Executable


def run(
    artifact: Annotated[Path, typer.Argument(help="A compiled model.", metavar="MODEL.so")],
    inputs: Annotated[Path | None, typer.Option(help="Input arrays by name (.npz).")] = None,
    outputs: Annotated[Path | None, typer.Option(help="Write the output arrays here (.npz).")] = None,
    fill: Annotated[Fill, typer.Option(help="Values for inputs that --inputs does not hold.")] = Fill.RANDOM,
    seed: Annotated[int, typer.Option(help="Seed of random values.")] = 0,
    shape: ShapeOption = [],  # noqa: B006 - typer never changes it
    show: Annotated[bool, typer.Option("--print", help="Print the values, too.")] = False,
) -> None:
    """Run a compiled model once and describe its outputs.

    Example: relaxc run model.so --inputs in.npz --outputs out.npz
    """
    from ...runtime import load
    from ...runtime.atomic_file import check_writable

    if outputs is not None:
        check_writable(outputs)
    executable = load(artifact)
    results = executable.run(_arrays(executable, inputs, parse_shapes(shape), fill, seed))
    _print_summary(results)
    if show:
        _print_values(results)
    if outputs is not None:
        from ..npz_files import write_npz

        write_npz(outputs, results)


def _arrays(
    executable: Executable, file: Path | None, shapes: dict[str, tuple[int, ...]], fill: Fill, seed: int
) -> dict[str, Any]:
    """The arrays of the file, and made-up ones for the inputs that it lacks."""
    from ..npz_files import read_npz

    arrays = read_npz(file, executable.inputs) if file is not None else {}
    if not arrays.keys() < {spec.name for spec in executable.inputs}:
        return arrays
    known = {name: array.shape for name, array in arrays.items()}
    return sample_inputs(executable.inputs, known | shapes, fill, seed) | arrays


def _print_summary(results: dict[str, Any]) -> None:
    from .. import npz_files
    from .console import results as console
    from .console import table

    grid = table("output", "dtype", "shape", "min", "mean", "max", numbers_from=3)
    arrays = dict(npz_files.flat(results))
    for name, array in arrays.items():
        grid.add_row(name, array.dtype.name, "x".join(map(str, array.shape)) or "scalar", *_statistics(array))
    for name in (name for name, value in results.items() if value is None):
        grid.add_row(name, "absent")
    console().print(grid)


def _statistics(array: Any) -> tuple[str, str, str]:
    if array.size == 0:
        return ("-", "-", "-")
    numbers = array.astype("float64")
    return (f"{numbers.min():.6g}", f"{numbers.mean():.6g}", f"{numbers.max():.6g}")


def _print_values(results: dict[str, Any]) -> None:
    from .. import npz_files

    for name, array in npz_files.flat(results):
        typer.echo(f"{name} =\n{array}")
