"""``relaxc targets``: what models can be compiled for, and what this machine is."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

from .compiler_library import require_compiler
from .console import results, table


def targets(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure this machine's arithmetic and memory (2 seconds).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the targets and describe this machine.

    Example: relaxc targets --measure
    """
    require_compiler()
    entries, machine = _targets(), _machine(measure)
    if as_json:
        typer.echo(json.dumps({"targets": entries, "machine": machine}, indent=1))
        return
    grid = table("target", "description", "runs here", numbers_from=3)
    for entry in entries:
        missing = entry["missing_features"]
        grid.add_row(
            entry["name"], entry["description"], f"no, lacks {' '.join(missing)}" if missing else "yes"
        )
    results().print(grid)
    here = table("this machine", "", numbers_from=2)
    for key, value in machine.items():
        here.add_row(key.replace("_", " "), " ".join(value) if isinstance(value, list) else str(value))
    results().print(here)


def _targets() -> list[dict[str, Any]]:
    from ...runtime.processor import missing_features
    from ...targets.cpu.machine import required_features
    from ...targets.registry import TARGETS

    return [
        {
            "name": spec.name,
            "description": spec.description,
            "missing_features": missing_features(required_features(spec.resolve().machine)),
        }
        for spec in TARGETS.values()
    ]


def _machine(measure: bool) -> dict[str, Any]:
    from ...runtime.processor import cpu_features, usable_cores
    from ...targets.registry import resolve

    native = resolve("native")
    facts: dict[str, Any] = {
        "cpu": str(native.tvm_target.attrs["mcpu"]),
        "cores": usable_cores(),
        "vector_bits": 8 * native.machine.vector_bytes,
        "l1_bytes": native.machine.l1_bytes,
        "l2_bytes": native.machine.l2_bytes,
        "features": sorted(cpu_features()),
    }
    if measure:
        from ...targets.cpu.ceilings import measure_ceilings

        ceilings = dataclasses.asdict(measure_ceilings(usable_cores()))
        facts |= {f"measured_{name}": round(value, 1) for name, value in ceilings.items()}
    return facts
