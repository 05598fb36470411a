"""Which algorithm each product with a constant shall go by: it is measured with a bias behind it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import tvm
from tvm import relax

from ..passes.constants import constant
from ..passes.lower_strassen_matmul import MatmulExtents
from ..passes.pipeline import graph_passes
from ..targets.cpu.matmul_algorithms import algorithms, by_strassen, identify_choice
from ..targets.registry import CpuTarget
from .algorithm_tasks import AlgorithmTask, Operator, algorithm_tasks
from .measurement import Knobs


def matmul_algorithm_tasks(
    calls: Mapping[MatmulExtents, int], target: CpuTarget, model_bytes: int
) -> list[AlgorithmTask]:
    """A task for each product that has a choice; how often a model calls it is given."""
    operators = [(_operator(extents), count) for extents, count in calls.items()]
    return algorithm_tasks(operators, target, model_bytes)


def _operator(extents: MatmulExtents) -> Operator:
    rows = extents.rows if extents.batch == 1 else f"{extents.batch}x{extents.rows}"
    return Operator(
        name=f"product {rows}x{extents.inner}x{extents.columns}",
        choice=identify_choice(extents),
        workload=dict(vars(extents)),
        algorithms=algorithms(extents),
        fuse=partial(_fused, extents),
    )


def _fused(extents: MatmulExtents, knobs: Knobs, target: CpuTarget) -> tvm.IRModule:
    module, strassen = _product(extents), by_strassen(knobs)
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
