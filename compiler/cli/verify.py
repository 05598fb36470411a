"""``relaxc verify``: hold a compiled model against a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.atomic_file import check_writable
from ...runtime.errors import RelaxcError
from ..verify.reference import Reference
from .compiler_library import require_compiler
from .console import progress, results, table
from .shape_option import ShapeOption, parse_shapes

if TYPE_CHECKING:
    from ..verify.comparison import Comparison
    from ..verify.first_drift import Drift
    from ..verify.output_error import OutputError
    from ..verify.reduction import FailingModel


def verify(
    model: Annotated[Path, typer.Argument(help="The model.", metavar="MODEL.onnx")],
    artifact: Annotated[
        Path | None,
        typer.Argument(help="The compiled model; by default it is compiled anew.", metavar="MODEL.so"),
    ] = None,
    inputs: Annotated[Path | None, typer.Option(help="Input arrays by name (.npz).")] = None,
    shape: ShapeOption = [],  # noqa: B006 - typer never changes it
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    rtol: Annotated[float, typer.Option(min=0, help="Tolerance, relative to the reference.")] = 1e-3,
    atol: Annotated[float, typer.Option(min=0, help="Tolerance, absolute.")] = 1e-4,
    reference: Annotated[
        Reference | None, typer.Option(help="By default ONNX Runtime where it is installed.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Find the first node that differs.")] = False,
    reduce: Annotated[
        Path | None,
        typer.Option(metavar="FAILING.onnx", help="Cut the model down to what fails, and save that."),
    ] = None,
) -> None:
    """Compare a compiled model with ONNX Runtime or with onnx's reference evaluator.

    Inputs without a value are random; their symbolic dimensions are 1 on the first axis and 32 elsewhere, or
    what --shape says. Two numbers agree where |actual - expected| <= atol + rtol * |expected|. Exits 1 if any
    two do not.

    Example: relaxc verify model.onnx model.so --inputs in.npz --layers
    """
    if reduce is not None:
        check_writable(reduce)
    require_compiler()
    from ..verify.comparison import Comparison
    from ..verify.output_error import Tolerance

    comparison = Comparison.prepare(
        model, artifact, inputs, parse_shapes(shape), seed, Tolerance(rtol, atol), reference
    )
    failure = comparison.failure()
    _print_errors(comparison.errors)
    drift = _find_first_drift(comparison) if failure and layers else None
    if failure and reduce is not None:
        _reduce(comparison, reduce, drift)
    if failure:
        raise RelaxcError(failure)


def _print_errors(errors: list[OutputError]) -> None:
    grid = table("output", "type", "max abs error", "max rel error", "mismatches", "cosine", numbers_from=2)
    for error in errors:
        if error.difference_in_kind:
            grid.add_row(error.name, error.form, "-", "-", "all", "-")
        else:
            mismatches = f"{error.mismatches} of {error.elements}"
            grid.add_row(
                error.name,
                error.form,
                f"{error.max_abs:.3g}",
                f"{error.max_rel:.3g}",
                mismatches,
                f"{error.cosine:.6f}",
            )
    if errors:
        results().print(grid)


def _find_first_drift(comparison: Comparison) -> Drift | None:
    if not comparison.wrong:
        typer.echo("the model gives no results, so there is no first node that differs; --reduce may help")
        return None
    with progress() as report:
        drift = comparison.first_drift(report)
    _print_drift(drift)
    return drift


def _reduce(comparison: Comparison, path: Path, drift: Drift | None) -> None:
    with progress() as report:
        smallest = comparison.reduce(report, drift)
    _save(smallest, path)


def _print_drift(drift: Drift | None) -> None:
    if drift is None:
        typer.echo(
            "compiled anew, every node agrees when its result is an output: the artifact is of another model "
            "or compiler, or fusing nodes makes the difference"
        )
        return
    node = drift.node
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    typer.echo(f"first node that differs: {operator} {node.name or node.output[0]!r} -> {drift.error}")
    for read in drift.inputs:
        typer.echo(f"  reads {read}")


def _save(smallest: FailingModel, path: Path) -> None:
    import onnx

    from ..npz_files import write_npz

    onnx.save(smallest.model, path)
    inputs = path.with_suffix(".npz")
    write_npz(inputs, smallest.feed)
    operators = ", ".join(node.op_type for node in smallest.model.graph.node)
    typer.echo(f"{path}: what still fails ({operators}); its inputs are in {inputs}")
