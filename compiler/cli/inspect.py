"""``relaxc inspect``: what is in a model or an artifact."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import results, table
from .shape_option import ShapeOption, Shapes, parse_shapes

if TYPE_CHECKING:
    from ...runtime.signature import Signature, TensorSpec
    from ..reports.onnx_summary import OnnxSummary

_ELF_MAGIC = b"\x7fELF"
_DYNAMIC = "depends on the inputs' shapes: bind them with --shape"


def inspect_file(
    file: Annotated[Path, typer.Argument(help="A model or an artifact.", metavar="MODEL.onnx|MODEL.so")],
    shape: ShapeOption = [],  # noqa: B006 - typer never changes it
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show inputs, outputs, operators, parameters and operations. Nothing is run.

    Example: relaxc inspect model.onnx --shape x:1,3,224,224
    """
    shapes = parse_shapes(shape)
    facts = _artifact_facts(file) if _is_shared_library(file) else _model_facts(file, shapes)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        _print(facts)


def _is_shared_library(file: Path) -> bool:
    if file.suffix == ".so":
        return True
    try:
        with open(file, "rb") as stream:
            return stream.read(len(_ELF_MAGIC)) == _ELF_MAGIC
    except OSError:
        return False


def _model_facts(file: Path, shapes: Shapes) -> dict[str, Any]:
    from ..reports.onnx_summary import summarize_onnx

    summary = summarize_onnx(file, shapes)
    return {
        "file": str(file),
        "inputs": _plain(summary.inputs),
        "outputs": _plain(summary.outputs),
        "parameters": summary.parameters,
        "flops": summary.flops.value,
        "flops_formula": _formula(summary),
        "nodes_without_flops": summary.uncounted,
        "operators": summary.operators,
    }


def _formula(summary: OnnxSummary) -> str | None:
    """The operations as a sum of products of the inputs' dimensions; None where others are needed."""
    known = {extent for spec in summary.inputs for extent in spec.shape}
    return str(summary.flops) if summary.flops.symbols <= known else None


def _artifact_facts(file: Path) -> dict[str, Any]:
    from ...runtime.artifact import Artifact

    signature = Artifact(file).signature
    flops = [None if kernel.flops is None else kernel.calls * kernel.flops for kernel in signature.kernels]
    return {
        "file": str(file),
        "inputs": _plain(signature.inputs),
        "outputs": _plain(signature.outputs),
        "parameters": sum(math.prod(weight.shape) for weight in signature.weights),
        "flops": None if None in flops else sum(count for count in flops if count is not None),
        "kernels": len(signature.kernels),
        "templates": dict(Counter(kernel.template for kernel in signature.kernels).most_common()),
        **_origin(signature),
    }


def _origin(signature: Signature) -> dict[str, Any]:
    return {
        "precision": signature.precision,
        "target": signature.target,
        "cpu_features": list(signature.cpu_features),
        "versions": signature.versions,
        "source_hash": signature.source_hash,
    }


def _plain(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(spec) for spec in specs]


def _print(facts: dict[str, Any]) -> None:
    tensors = table("", "name", "dtype", "shape", numbers_from=4)
    for kind in ("inputs", "outputs"):
        for spec in facts[kind]:
            shape = "x".join(map(str, spec["shape"])) or "scalar"
            tensors.add_row(kind[:-1], spec["name"], spec["dtype"], shape)
    results().print(tensors)
    rest = table("", "", numbers_from=2)
    for key, value in facts.items():
        if key not in ("file", "inputs", "outputs", "flops_formula", "nodes_without_flops"):
            rest.add_row(key.replace("_", " "), _text(key, value, facts))
    results().print(rest)


def _text(key: str, value: Any, facts: dict[str, Any]) -> str:
    if key == "flops":
        unknown = f" (and {n} nodes of unknown shape)" if (n := facts.get("nodes_without_flops")) else ""
        return (f"{value:,}" if value is not None else facts.get("flops_formula") or _DYNAMIC) + unknown
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
