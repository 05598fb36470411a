"""Strassen's product against NumPy: batches, epilogues, odd extents that stay direct, errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax, tirx

from relaxc.passes.lower_strassen_matmul import MatmulExtents
from relaxc.passes.pipeline import graph_passes
from relaxc.targets.cpu.kernel_costs import flops
from relaxc.targets.cpu.schedule_kernels import schedule_kernel
from relaxc.targets.cpu.templates.strassen_matmul import StrassenMatmulTemplate
from relaxc.targets.registry import CpuTarget, resolve
from tests.targets.cpu.test_matmul_kernels import NOTHING, by_constant, random_epilogue, weights
from tests.targets.cpu.test_template_spaces import result, schedule_for
from tests.targets.kernel_workloads import CompiledWorkloads, Workload, check, check_random, normal

LARGEST_ERROR = 2e-5
TYPICAL_ERROR = 2e-6
"""Relative to the root mean square of the results: the largest of many errors, and their root mean square."""


def always(_extents: MatmulExtents) -> bool:
    return True


def by_strassen(workload: Workload) -> Workload:
    return replace(workload, templates=workload.templates - {"matmul"} | {"strassen_matmul"})


def random_product(generator: np.random.Generator) -> Workload:
    """Quadrants of any number of rows, primes among them, and of a few vectors; batches."""
    choices = [2, 6, 26, 32, 64], [32, 96, 160], [32, 64, 96]
    M, K, N = (int(generator.choice(extents)) for extents in choices)
    batch = [int(extent) for extent in generator.integers(1, 4, generator.choice([0, 1, 2]))]
    x = normal(generator, *batch, M, K)
    return by_strassen(by_constant(x, weights(generator, K, N), random_epilogue(generator, N)))


@pytest.mark.workloads_a_seed(12)
def test_random_products_agree_with_numpy(seed: int) -> None:
    check_random(random_product, seed, count=12, choose_strassen=always, tolerance=LARGEST_ERROR)


def test_random_products_agree_with_numpy_on_avx2(avx2: str) -> None:
    check_random(random_product, 1000, avx2, count=5, choose_strassen=always, tolerance=LARGEST_ERROR)


ODD = [(31, 64, 64), (32, 72, 64), (32, 64, 72)]


@pytest.mark.parametrize("shape", ODD, ids=["rows", "inner", "columns"])
def test_other_extents_stay_direct(shape: tuple[int, int, int]) -> None:
    generator, (M, K, N) = np.random.default_rng(0), shape
    workload = by_constant(normal(generator, 1, M, K), weights(generator, K, N), NOTHING)
    check([workload], choose_strassen=always)


def test_symbolic_rows_stay_direct() -> None:
    generator = np.random.default_rng(0)
    workload = by_constant(normal(generator, 64, 64), weights(generator, 64, 64), NOTHING, ["rows", 64])
    check([workload], choose_strassen=always)


@pytest.mark.parametrize("inner", [256, 3072])
def test_errors_stay_small(inner: int) -> None:
    generator = np.random.default_rng(inner)
    x, weight = normal(generator, 1, 64, inner), weights(generator, inner, 64)
    workload = by_strassen(by_constant(x, weight, NOTHING))
    compiled = CompiledWorkloads([workload], choose_strassen=always)
    errors = np.abs(compiled(0, [x]) - workload.expected) / np.sqrt(np.mean(workload.expected**2))
    assert errors.max() < LARGEST_ERROR
    assert np.sqrt(np.mean(errors**2)) < TYPICAL_ERROR


def kernel(target: CpuTarget, M: int = 32, K: int = 96, N: int = 192) -> tirx.PrimFunc:
    """relu(x @ constant + 1), unscheduled."""
    weight = relax.const(weights(np.random.default_rng(0), K, N))
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([1, M, K], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.add(relax.op.matmul(x, weight), relax.const(1.0)))
            output = builder.emit_output(relax.Tuple([relax.op.nn.relu(y)]))
        builder.emit_func_output(output)
    module = builder.get()
    for step in graph_passes(target.machine.lanes("float32"), choose_strassen=always):
        module = step.run(module)
    (function,) = [f for _, f in module.functions_items() if isinstance(f, tirx.PrimFunc)]
    return function


def test_every_point_of_the_space_computes_the_same() -> None:
    target, template = resolve("native"), StrassenMatmulTemplate()
    function = kernel(target)
    workload = template.matches(schedule_for(function))
    assert workload is not None
    generator = np.random.default_rng(0)
    inputs = [normal(generator, *(int(e) for e in param.shape)) for param in function.params[:-1]]
    expected = result(function, inputs, target)
    points = list(template.space(workload, target.machine))
    assert template.default(workload, target.machine) in points
    for config in (points[0], points[len(points) // 2], points[-2], points[-1]):
        schedule = schedule_for(function)
        template.apply(schedule, workload, config)
        actual = result(schedule.mod["main"], inputs, target)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4, err_msg=str(config))


def test_the_last_product_fetches_the_weights_of_the_next_group() -> None:
    target = resolve("x86-64-v4")
    scheduled = schedule_kernel(kernel(target, 128, 768, 768), target.machine)
    assert scheduled.template == "strassen_matmul"
    assert "llvm.prefetch" in tvm.IRModule({"f": scheduled.function}).script()


def test_an_eighth_of_the_arithmetic_is_saved() -> None:
    assert flops(kernel(resolve("native"))) == 2 * 32 * 96 * 192 * 7 // 8
