"""Which algorithm each product with a constant shall go by, as tasks like any other.

Each algorithm is measured as the kernel that a compilation would make of the product with a bias behind it,
with its default schedule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import ir, relax, tirx

from ..passes.constants import constant
from ..passes.lower_strassen_matmul import MatmulExtents
from ..passes.pipeline import graph_passes
from ..targets.cpu.kernel_costs import bytes_moved, flops
from ..targets.cpu.matmul_algorithms import DIRECT, STRASSEN, algorithms, identify_choice
from ..targets.registry import CpuTarget
from .measurement import Candidate, Knobs
from .space import SearchSpace
from .tasks import Task, weight_copies


@dataclass(frozen=True)
class MatmulAlgorithmTask(Task):
    """A product of which the algorithm is to be chosen.

    Attributes:
        extents: of the product.
        model_bytes: of all weights of the model.
    """

    extents: MatmulExtents = dataclasses.field(kw_only=True)
    model_bytes: int = dataclasses.field(kw_only=True)

    def candidate(self, knobs: Knobs | None, target: CpuTarget) -> Candidate:
        """An algorithm with its default schedule."""
        module = _module(self.extents, knobs == STRASSEN, target)
        name, function = _kernel(module)
        source = ir.save_json(function.with_attr("global_symbol", "main"))
        return Candidate(source, None, target, weight_copies(module, name, self.model_bytes))


def matmul_algorithm_tasks(
    calls: Mapping[MatmulExtents, int], target: CpuTarget, model_bytes: int
) -> list[MatmulAlgorithmTask]:
    """A task for each product that has a choice; how often a model calls it is given."""
    chosen = {extents: algorithms(extents) for extents in calls}
    return [
        _task(extents, SearchSpace(points), calls[extents], target, model_bytes)
        for extents, points in chosen.items()
        if len(points) > 1
    ]


def _task(
    extents: MatmulExtents, space: SearchSpace, calls: int, target: CpuTarget, model_bytes: int
) -> MatmulAlgorithmTask:
    _, direct = _kernel(_module(extents, False, target))
    rows = extents.rows if extents.batch == 1 else f"{extents.batch}x{extents.rows}"
    return MatmulAlgorithmTask(
        kernel=identify_choice(extents),
        names=(f"product {rows}x{extents.inner}x{extents.columns}",),
        calls=calls,
        source="",
        workload=dict(vars(extents)),
        space=space,
        default=DIRECT,
        copies=(),
        flops=flops(direct) or 0,
        bytes_moved=bytes_moved(direct) or 0,
        extents=extents,
        model_bytes=model_bytes,
    )


def _kernel(module: tvm.IRModule) -> tuple[str, tirx.PrimFunc]:
    ((name, function),) = (
        (variable.name_hint, function)
        for variable, function in module.functions_items()
        if isinstance(function, tirx.PrimFunc)
    )
    return name, function


def _module(extents: MatmulExtents, strassen: bool, target: CpuTarget) -> tvm.IRModule:
    """The fused product with a bias."""
    module = _product(extents)
    with target.tvm_target:
        for step in graph_passes(target.machine.lanes("float32"), choose_strassen=lambda _extents: strassen):
            module = step.run(module)
    return module


def _product(extents: MatmulExtents) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    shape = [extents.batch, extents.rows, extents.inner]
    weight = np.ones((extents.inner, extents.columns), np.float32)
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, constant(weight)))
            y = builder.emit(relax.op.add(y, constant(np.ones(extents.columns, np.float32))))
            result = builder.emit_output(relax.Tuple([y]))
        builder.emit_func_output(result)
    return builder.get()
