"""``relaxc bench``: time an artifact, and its kernels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.errors import RelaxcError
from ..sample_inputs import sample_inputs
from .compiler_library import require_compiler
from .console import results, table
from .shape_option import ShapeOption, parse_shapes

if TYPE_CHECKING:
    from ...runtime import Executable
    from ...targets.cpu.ceilings import Ceilings
    from ..reports.kernel_profile import KernelCall, KernelRow
    from ..reports.latency import LatencySummary

# Instrumented runs that a profile averages over.
_PROFILED_RUNS = 10


def bench(
    artifact: Annotated[Path, typer.Argument(help="A compiled model.", metavar="MODEL.so")],
    warmup: Annotated[int, typer.Option(min=0, help="Runs before the timing, in each stream.")] = 3,
    repeat: Annotated[int | None, typer.Option(min=1, help="Timed runs in each stream.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="Time to spend where --repeat is not given.")] = 2.0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of one run; by default the cores, shared by the streams."),
    ] = None,
    streams: Annotated[int, typer.Option(min=1, help="Callers that run the model at once.")] = 1,
    shape: ShapeOption = [],  # noqa: B006 - typer never changes it
    profile: Annotated[bool, typer.Option("--profile", help="Print a table of the kernels.")] = False,
    trace: Annotated[Path | None, typer.Option(help="Write a Chrome trace here (.json).")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
) -> None:
    """Time a compiled model on random input.

    Example: relaxc bench model.so --shape x:1,3,224,224 --profile
    """
    from ...runtime import load
    from ...runtime.atomic_file import check_writable
    from ...runtime.processor import default_threads
    from ..reports.latency import Budget, summarize, time_runs
    from ..reports.peak_memory import PeakMemory

    for file in filter(None, (trace, json_file)):
        check_writable(file)
    memory = PeakMemory()
    executable = load(artifact, threads or max(1, default_threads() // streams))
    inputs = sample_inputs(executable.inputs, parse_shapes(shape))
    runs = time_runs(lambda: executable.run(inputs), Budget(warmup, repeat, seconds), streams)
    summary = summarize(runs)
    peak_bytes = memory.bytes()
    _print_latency(summary, executable.num_threads, streams, peak_bytes)
    recorded = _record(executable, inputs) if profile or trace else []
    numbers = _numbers(artifact, executable.num_threads, streams, summary) | {"peak_bytes": peak_bytes}
    if profile:
        numbers |= _print_profile(executable, recorded)
    if trace:
        from ..reports.chrome_trace import chrome_trace

        _write_json(trace, chrome_trace(runs, recorded[:1]))
    if json_file:
        _write_json(json_file, numbers)


def _record(executable: Executable, inputs: dict[str, Any]) -> list[list[KernelCall]]:
    from ..reports.kernel_profile import record_kernels

    return record_kernels(executable, inputs, _PROFILED_RUNS)


def _numbers(artifact: Path, threads: int, streams: int, summary: LatencySummary) -> dict[str, Any]:
    latency = dataclasses.asdict(summary)
    runs, throughput = latency.pop("runs"), latency.pop("throughput")
    return {
        "artifact": str(artifact),
        "threads": threads,
        "streams": streams,
        "runs": runs,
        "latency_ms": latency,
        "throughput_per_second": throughput,
    }


def _print_latency(summary: LatencySummary, threads: int, streams: int, peak_bytes: int) -> None:
    grid = table("runs", "min", "median", "p90", "p99", "throughput", numbers_from=0)
    times = (summary.minimum, summary.median, summary.p90, summary.p99)
    grid.add_row(str(summary.runs), *(f"{time:.3f} ms" for time in times), f"{summary.throughput:.1f}/s")
    results().print(grid)
    results().print(f"{threads} thread(s) a run, {streams} stream(s)")
    megabytes = peak_bytes / 2**20
    results().print(f"peak memory of loading and running: {megabytes:.1f} MB, mapped weights included")


def _print_profile(executable: Executable, recorded: list[list[KernelCall]]) -> dict[str, Any]:
    """Prints the table and returns what ``--json`` says of it."""
    from ...runtime.signature import KernelSpec
    from ..reports.kernel_profile import kernel_rows

    ceilings, note = _ceilings(executable.num_threads)
    kernels = [KernelSpec(**kernel) for kernel in executable.metadata["kernels"]]
    rows = kernel_rows(recorded, kernels, ceilings)
    grid = table(
        "kernel", "template", "calls", "time", "share", "GFLOP/s", "GB/s", "of ceiling", numbers_from=2
    )
    for row in rows:
        grid.add_row(*_cells(row))
    results().print(grid)
    results().print(note)
    return {
        "kernels": [dataclasses.asdict(row) for row in rows],
        "ceilings": dataclasses.asdict(ceilings) if ceilings else None,
    }


def _cells(row: KernelRow) -> list[str]:
    return [
        row.name,
        row.template,
        str(row.calls),
        f"{row.microseconds:.1f} us",
        f"{row.share:.1%}",
        "-" if row.gflops is None else f"{row.gflops:.1f}",
        f"{row.gbytes:.1f}",
        "-" if row.of_ceiling is None else f"{row.of_ceiling:.0%}",
    ]


def _ceilings(threads: int) -> tuple[Ceilings | None, str]:
    """The machine's limits, which take TVM's compiler to measure, and a line that says what they are."""
    try:
        require_compiler()
    except RelaxcError as error:
        return None, f"the machine's ceilings were not measured: {error}"
    from ...targets.cpu.ceilings import measure_ceilings

    ceilings = measure_ceilings(threads)
    return ceilings, (
        f"measured ceilings of {threads} thread(s): {ceilings.gflops:.0f} GFLOP/s (fp32 FMA), "
        f"{ceilings.gbytes:.1f} GB/s (memory read)"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    from ...runtime.atomic_file import atomic_file

    with atomic_file(path) as stream:
        stream.write(json.dumps(content, indent=1).encode())
