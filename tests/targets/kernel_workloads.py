"""Workloads for kernels: operators, inputs and what NumPy makes of them, compiled many at a time.

Each workload becomes a function of one Relax module, which goes the way that the driver sends a model, from
the graph passes to machine code. So the kernels under test are those that models get, with their packing
and their epilogues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm import relax

from relaxc.passes.fuse_separable_conv2d import ChooseChain, never_fused
from relaxc.passes.lower_strassen_matmul import ChooseStrassen, never_strassen
from relaxc.passes.lower_winograd_conv2d import ChooseTiling, always_direct
from relaxc.passes.pipeline import graph_passes, lower_to_virtual_machine
from relaxc.targets.cpu.dot_products import Packing, packing_for
from relaxc.targets.cpu.schedule_kernels import schedule_kernels
from relaxc.targets.cpu.tir_pipeline import TIR_PIPELINE
from relaxc.targets.registry import resolve

MOVEMENT = {"elementwise", "transpose"}
"""Templates that only take what stands around a kernel under test."""
TOLERANCE = 1e-5
"""Of an error, relative to the result and to the root mean square of all results."""
WORKLOADS_A_SEED = 40
"""How many workloads a family draws from one seed, and compiles as one module."""

Extent = int | str
Target = str | Mapping[str, Any]
Shapes = Sequence[Sequence[Extent]]


@dataclass(frozen=True)
class Workload:
    """Something to compute.

    Attributes:
        description: what the report of a failure calls it.
        operator: the result as a Relax expression, from the inputs as Relax variables.
        inputs: arrays.
        expected: the result, in float64 where it is a floating-point number.
        templates: the templates that its kernels take, but for element-wise ones.
        shapes: the inputs' shapes as the compiler sees them, symbolic extents by name. None: all are known.
    """

    description: str
    operator: Callable[..., relax.Expr]
    inputs: Sequence[np.ndarray]
    expected: np.ndarray
    templates: frozenset[str]
    shapes: Shapes | None = None


Draw = Callable[[np.random.Generator], Workload]


def check_random(
    draw: Draw,
    seed: int,
    target: Target = "native",
    count: int = WORKLOADS_A_SEED,
    choose_tiling: ChooseTiling = always_direct,
    tolerance: float = TOLERANCE,
    dtype: str = "float32",
    choose_strassen: ChooseStrassen = never_strassen,
    choose_chain: ChooseChain = never_fused,
    packing: Packing | None = None,
) -> None:
    """Compiles ``count`` random workloads together; fails with a list of those that are wrong."""
    generator = np.random.default_rng(seed)
    workloads = [draw(generator) for _ in range(count)]
    check(workloads, target, choose_tiling, tolerance, dtype, choose_strassen, choose_chain, packing)


def check(
    workloads: Sequence[Workload],
    target: Target = "native",
    choose_tiling: ChooseTiling = always_direct,
    tolerance: float = TOLERANCE,
    dtype: str = "float32",
    choose_strassen: ChooseStrassen = never_strassen,
    choose_chain: ChooseChain = never_fused,
    packing: Packing | None = None,
) -> None:
    """Compiles ``workloads`` together; fails with a list of those that are wrong.

    ``dtype`` is that of values between kernels which are float32 in the workloads; ``packing`` may be that of
    another machine.
    """
    choices = choose_tiling, dtype, choose_strassen, choose_chain
    compiled = CompiledWorkloads(workloads, target, *choices, packing)
    failures = [
        f"{workload.description}: {error}"
        for number, workload in enumerate(workloads)
        for error in _errors(workload, compiled, number, tolerance)
    ]
    assert not failures, "\n".join(failures)


class CompiledWorkloads:
    """Workloads in machine code, called by their number."""

    def __init__(
        self,
        workloads: Sequence[Workload],
        target: Target = "native",
        choose_tiling: ChooseTiling = always_direct,
        dtype: str = "float32",
        choose_strassen: ChooseStrassen = never_strassen,
        choose_chain: ChooseChain = never_fused,
        packing: Packing | None = None,
    ) -> None:
        resolved = resolve(target)
        module = _module(workloads)
        with resolved.tvm_target:
            used = _widest_use(workloads) if dtype == "float32" else dtype
            packing = packing or packing_for(used, resolved.machine)
            passes = graph_passes(
                packing.block,
                dtype,
                choose_tiling,
                depth=packing.depth,
                choose_strassen=choose_strassen,
                choose_chain=choose_chain,
            )
            for step in passes:
                module = step.run(module)
            scheduled = schedule_kernels(module, resolved.machine)
            self._kernels = {kernel.name: kernel.template for kernel in scheduled.kernels}
            self._functions = scheduled.module
            lowered = lower_to_virtual_machine()(scheduled.module)
        executable = relax.build(lowered, resolved.tvm_target, relax_pipeline=None, tir_pipeline=TIR_PIPELINE)
        self._machine = relax.VirtualMachine(executable, tvm.cpu())

    def __call__(self, number: int, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The result of a workload for ``inputs``."""
        tensors = [tvm.runtime.tensor(array) for array in inputs]
        result = np.asarray(self._machine[_name(number)](*tensors)[0].numpy())
        for tensor, array in zip(tensors, inputs, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array, "an input was overwritten")
        return result

    def templates(self, number: int) -> list[str]:
        """The templates that a workload's kernels took, in the order of their calls."""
        found: list[str] = []

        def visit(expr: relax.Expr) -> None:
            if isinstance(expr, tvm.ir.Call) and isinstance(expr.args[0], tvm.ir.GlobalVar):
                found.append(self._kernels[expr.args[0].name_hint])

        relax.analysis.post_order_visit(self._functions[_name(number)], visit)
        return found


def _widest_use(workloads: Sequence[Workload]) -> str:
    """A narrow type if one of the workloads takes it: all of them then lie in memory as it wants."""
    dtypes = {array.dtype.name for workload in workloads for array in workload.inputs}
    return next((narrow for narrow in ("bfloat16", "float16") if narrow in dtypes), "float32")


def _name(number: int) -> str:
    return f"workload_{number}"


def _module(workloads: Sequence[Workload]) -> tvm.IRModule:
    builder = relax.BlockBuilder()
    for number, workload in enumerate(workloads):
        parameters = list(_parameters(workload))
        with builder.function(_name(number), parameters):
            with builder.dataflow():
                value = builder.emit(workload.operator(*parameters))
                output = builder.emit_output(relax.Tuple([value]))
            builder.emit_func_output(output)
    return builder.get()


def _parameters(workload: Workload) -> Iterator[relax.Var]:
    shapes = workload.shapes or [array.shape for array in workload.inputs]
    extents: Mapping[str, tvm.tirx.Var] = {
        extent: tvm.tirx.Var(extent, "int64")
        for shape in shapes
        for extent in shape
        if isinstance(extent, str)
    }
    for position, (shape, array) in enumerate(zip(shapes, workload.inputs, strict=True)):
        known = [extents[extent] if isinstance(extent, str) else extent for extent in shape]
        yield relax.Var(f"x{position}", relax.TensorType(known, str(array.dtype)))


def _errors(workload: Workload, compiled: CompiledWorkloads, number: int, tolerance: float) -> Iterator[str]:
    taken = set(compiled.templates(number))
    if taken - MOVEMENT != workload.templates - MOVEMENT:
        yield f"templates {sorted(taken)} instead of {sorted(workload.templates)}"
    actual = compiled(number, workload.inputs)
    expected, typical = workload.expected, _typical(workload.expected)
    if actual.shape != expected.shape:
        yield f"shape {actual.shape} instead of {expected.shape}"
    elif not np.allclose(actual, expected, rtol=tolerance, atol=tolerance * typical, equal_nan=True):
        worst = np.abs(actual - expected).max()
        yield f"wrong by up to {worst:.3g} where values are about {typical:.3g}"


def _typical(expected: np.ndarray) -> float:
    """The root mean square: rounding errors are measured against it, since sums may cancel out."""
    finite = expected[np.isfinite(expected)].astype(np.float64)
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0


def some_symbolic(generator: np.random.Generator, shape: Sequence[int], axes: Sequence[int]) -> list[Extent]:
    """``shape`` with a random choice of ``axes`` made symbolic; none of them half of the time."""
    symbolic = set() if generator.random() < 0.5 else {axis for axis in axes if generator.random() < 0.6}
    return [f"d{axis}" if axis in symbolic else extent for axis, extent in enumerate(shape)]


def normal(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Random numbers in float32."""
    return generator.standard_normal(shape).astype(np.float32)
