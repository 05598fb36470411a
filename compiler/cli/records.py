"""``relaxc records``: look at the tuner's records, put files together, make them smaller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...runtime.errors import RelaxcError
from .compiler_library import require_compiler
from .console import results, table

if TYPE_CHECKING:
    from ...autotune.records import ReadRecords

records = typer.Typer(
    help="Show, merge and prune the records of relaxc tune.\n\nExample: relaxc records show records.jsonl",
    no_args_is_help=True,
)

Files = Annotated[list[Path], typer.Argument(help="Records that relaxc tune wrote.", metavar="RECORDS...")]


@records.command()
def show(
    files: Files,
    mcpu: Annotated[str | None, typer.Option(help="Only records for this processor (LLVM's name).")] = None,
    template: Annotated[str | None, typer.Option(help="Only kernels of this template.")] = None,
) -> None:
    """List the kernels in records, with the best schedule known of each.

    Example: relaxc records show model.records
    """
    from ...autotune.pruning import kernel_summaries

    grid = table(
        "name", "kernel", "target", "knobs", "trials", "failed", "default", "best", "gain", numbers_from=4
    )
    for line in kernel_summaries(_read(files), mcpu, template):
        grid.add_row(
            line.name,
            str(line.kernel),
            f"{line.target.mcpu}, {line.target.threads} thread(s)",
            " ".join(f"{name}={value}" for name, value in (line.knobs or {}).items()),
            str(line.trials),
            str(line.failed or ""),
            f"{line.default_seconds * 1e6:.1f} us",
            f"{line.seconds * 1e6:.1f} us",
            f"{line.gain:.2f}x",
        )
    results().print(grid)


@records.command()
def merge(
    files: Files,
    output: Annotated[Path, typer.Option("-o", "--output", help="The file that holds all of them.")],
) -> None:
    """Put several files of records together; what is in two of them is kept once.

    Example: relaxc records merge desktop.records laptop.records -o all.records
    """
    from ...autotune.records import merged, write_records

    lines = list(merged(_read(files)))
    write_records(output, lines)
    typer.echo(f"{output}: {len(lines)} records")


@records.command()
def prune(
    file: Annotated[Path, typer.Argument(help="Records that relaxc tune wrote.", metavar="RECORDS")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="By default the same file.")] = None,
    keep: Annotated[int, typer.Option(min=0, help="Trials to keep of each kernel, the best ones.")] = 8,
) -> None:
    """Leave out what a compilation does not need: failures, slow trials, and templates' older versions.

    Example: relaxc records prune model.records --keep 0
    """
    require_compiler()
    from ...autotune.pruning import pruned
    from ...autotune.records import write_records

    (read,) = _read([file])
    kept = pruned(read.records, keep)
    write_records(output or file, kept)
    typer.echo(f"{output or file}: {len(kept)} of {len(read.records)} records kept")


def _read(files: list[Path]) -> list[ReadRecords]:
    from ...autotune.records import read_records

    if not files:
        raise RelaxcError("no files of records given")
    read = [read_records(file) for file in files]
    for notice in (notice for one in read for notice in one.notices):
        typer.echo(f"note: {notice}", err=True)
    return read
