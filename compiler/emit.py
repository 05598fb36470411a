"""The stages of a compilation as text, for ``relaxc compile --emit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tvm

from ..runtime.errors import RelaxcError
from ..targets.cpu.tir_pipeline import TIR_PIPELINE
from .driver import LoweredModel, Model, lower
from .options import CompileOptions


def emit(
    model: Model,
    stage: str,
    target: str | Mapping[str, Any] = "native",
    shapes: Mapping[str, Sequence[int]] | None = None,
    static_inputs: Mapping[str, np.ndarray[Any, Any]] | None = None,
    precision: str = "fp32",
    *,
    options: CompileOptions | None = None,
) -> str:
    """The model at ``stage``, a key of ``STAGES``. Other arguments as in ``relaxc.compile``.

    Raises:
        RelaxcError: the stage is unknown, or compilation fails.
    """
    if stage not in STAGES:
        raise RelaxcError(f"unknown stage {stage!r}: choose one of {', '.join(STAGES)}")
    options = options or CompileOptions()
    return STAGES[stage](lower(model, target, shapes, static_inputs, precision, None, None, options))


def _relax(lowered: LoweredModel) -> str:
    functions = {
        v: f for v, f in lowered.scheduled.module.functions_items() if isinstance(f, tvm.relax.Function)
    }
    return str(tvm.IRModule(functions).script(show_meta=False))


def _kernels(lowered: LoweredModel) -> tvm.IRModule:
    functions = lowered.scheduled.module.functions_items()
    kernels = {v.name_hint: f for v, f in functions if isinstance(f, tvm.tirx.PrimFunc)}
    return tvm.IRModule({name: f.with_attr("global_symbol", name) for name, f in kernels.items()})


def _tir(lowered: LoweredModel) -> str:
    return str(_kernels(lowered).script())


def _machine_code(lowered: LoweredModel, form: str) -> str:
    library = tvm.tirx.build(_kernels(lowered), target=lowered.target.tvm_target, pipeline=TIR_PIPELINE)
    return str(library.inspect_source(form))


STAGES: dict[str, Callable[[LoweredModel], str]] = {
    "relax": _relax,
    "tir": _tir,
    "llvm": lambda lowered: _machine_code(lowered, "ll"),
    "asm": lambda lowered: _machine_code(lowered, "s"),
}
"""How each stage is printed."""
