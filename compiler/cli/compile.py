"""``relaxc compile``: a model file becomes an artifact."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.atomic_file import check_writable
from ...runtime.errors import RelaxcError
from ..options import CompileOptions
from .compiler_library import require_compiler
from .console import progress, results, table
from .model_options import (
    Precision,
    PrecisionOption,
    StaticInputsOption,
    TargetOption,
    parse_target,
    read_arrays,
)
from .shape_option import ShapeOption, parse_shapes

if TYPE_CHECKING:
    from ...runtime import Executable


class Stage(StrEnum):
    """What ``--emit`` can print."""

    RELAX = "relax"
    TIR = "tir"
    LLVM = "llvm"
    ASM = "asm"


def compile_model(
    model: Annotated[Path, typer.Argument(help="The model.", metavar="MODEL.onnx")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The artifact; by default the model's name with .so."),
    ] = None,
    target: TargetOption = "native",
    shape: ShapeOption = [],  # noqa: B006 - typer never changes it
    static_inputs: StaticInputsOption = None,
    precision: PrecisionOption = Precision.FP32,
    calibration: Annotated[
        Path | None, typer.Option(help="Sample inputs for int8 (.npz), with a leading batch axis.")
    ] = None,
    tuning_records: Annotated[Path | None, typer.Option(help="Records that relaxc tune wrote.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="List the kernels and their templates.")] = False,
    dump_ir: Annotated[
        Path | None, typer.Option(help="Write the program after each pass into this folder.")
    ] = None,
    emit: Annotated[
        Stage | None, typer.Option(help="Print the program at a stage; write no artifact.")
    ] = None,
    disable_pass: Annotated[
        list[str], typer.Option(help="Leave out a pass; may be given several times.")
    ] = [],  # noqa: B006
    no_winograd: Annotated[
        bool, typer.Option("--no-winograd", help="Convolve directly: slower, but with smaller errors.")
    ] = False,
    no_strassen: Annotated[
        bool, typer.Option("--no-strassen", help="Multiply directly, whatever the tuning records say.")
    ] = False,
) -> None:
    """Compile a model into a shared library that carries everything it needs.

    Example: relaxc compile model.onnx -o model.so --shape x:1,3,224,224
    """
    choices: dict[str, Any] = {
        "target": parse_target(target),
        "shapes": parse_shapes(shape) or None,
        "static_inputs": read_arrays(static_inputs),
        "precision": precision.value,
    }
    options = CompileOptions(
        dump_ir, frozenset(disable_pass), winograd=not no_winograd, strassen=not no_strassen
    )
    if emit is not None:
        _print_stage(model, emit, choices, options)
        return
    choices |= {"calibration": _batches(calibration), "tuning_records": tuning_records}
    _compile(model, output or Path(f"{model.stem}.so"), choices, options, verbose)


def _print_stage(model: Path, stage: Stage, choices: dict[str, Any], options: CompileOptions) -> None:
    require_compiler()
    with progress() as report:
        from ..emit import emit

        text = emit(model, stage.value, **choices, options=dataclasses.replace(options, report=report))
    typer.echo(text)


def _compile(
    model: Path, output: Path, choices: dict[str, Any], options: CompileOptions, list_kernels: bool
) -> None:
    check_writable(output)
    require_compiler()
    started = time.perf_counter()
    notices: list[str] = []
    with progress() as report:
        from ..driver import compile

        told = dataclasses.replace(options, report=report, notice=notices.append)
        executable = compile(model, **choices, options=told)
        executable.save(output)
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)
    if list_kernels:
        _print_kernels(executable)
    _print_summary(executable, output, time.perf_counter() - started)


def _batches(path: Path | None) -> Iterator[dict[str, Any]] | None:
    """Batches of one sample each, cut from the leading axis of all arrays."""
    arrays = read_arrays(path)
    if arrays is None:
        return None
    counts = {name: array.shape[0] if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items()) or "it holds no arrays"
        raise RelaxcError(f"{path}: the arrays need one leading axis of equal length, but {listed}")
    samples = next(iter(counts.values()))
    return ({name: array[i : i + 1] for name, array in arrays.items()} for i in range(samples))


def _print_kernels(executable: Executable) -> None:
    grid = table("kernel", "template", "schedule", "MFLOP", "kB", numbers_from=3)
    for kernel in executable.metadata["kernels"]:
        grid.add_row(
            kernel["name"],
            kernel["template"],
            "tuned" if kernel["tuned"] else "default",
            _scaled(kernel["flops"], 1e6),
            _scaled(kernel["bytes_moved"], 1e3),
        )
    results().print(grid)


def _scaled(amount: int | None, unit: float) -> str:
    return "dynamic" if amount is None else f"{amount / unit:.2f}"


def _print_summary(executable: Executable, output: Path, seconds: float) -> None:
    templates = Counter(kernel["template"] for kernel in executable.metadata["kernels"])
    listed = ", ".join(f"{count} {template}" for template, count in templates.most_common())
    tuned = sum(kernel["tuned"] for kernel in executable.metadata["kernels"])
    listed += f"; {tuned} tuned" if tuned else ""
    length = output.stat().st_size
    size = f"{length / 1e6:.1f} MB" if length >= 1e6 else f"{length / 1e3:.0f} kB"
    typer.echo(f"{output}: {size}, {templates.total()} kernels ({listed}), in {seconds:.1f} s")
