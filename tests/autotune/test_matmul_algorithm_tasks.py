"""The algorithms of a product are measured against each other, on the same weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxc.autotune.build_kernel import build_kernel
from relaxc.autotune.matmul_algorithm_tasks import matmul_algorithm_tasks
from relaxc.autotune.measurement import ArgumentSpec, RunOptions, Status
from relaxc.autotune.run_kernels import Argument, run_kernels
from relaxc.passes.compute.layout import pack_matmul_weight
from relaxc.passes.compute.strassen import RIGHT, transform_weight
from relaxc.passes.lower_strassen_matmul import MatmulExtents
from relaxc.targets.cpu.matmul_algorithms import DIRECT, STRASSEN
from relaxc.targets.registry import CpuTarget

EXTENTS = MatmulExtents(batch=1, rows=64, inner=256, columns=256)
ONCE = RunOptions(1, repetitions=(1, 1), round_seconds=1e-6)


def test_both_algorithms_compute_the_same(native: CpuTarget) -> None:
    (task,) = matmul_algorithm_tasks({EXTENTS: 3}, native, model_bytes=1 << 20)
    assert (task.calls, task.default) == (3, DIRECT)
    kernels = [build_kernel(task.candidate(knobs, native)) for knobs in (None, STRASSEN)]
    assert [m.message for m in run_kernels(kernels, ONCE) if not m.ok] == []
    unmarked = replace(kernels[1], arguments=tuple(replace(a, quadrants=()) for a in kernels[1].arguments))
    _, wrong = run_kernels([kernels[0], unmarked], ONCE)
    assert wrong.status is Status.WRONG_RESULT


def test_weights_are_transformed_as_a_compilation_does_it() -> None:
    weight = np.random.default_rng(1).standard_normal((8, 24)).astype(np.float32)
    packed, quadrants = pack_matmul_weight(weight, 4, 2), tuple(map(tuple, RIGHT.tolist()))
    spec = ArgumentSpec((3, 7, 4, 4), "float32", quadrants=quadrants)
    assert spec.drawn_shape == packed.shape
    drawn = Argument.random(ArgumentSpec(packed.shape, "float32"), np.random.default_rng(0)).array
    plain = np.concatenate(list(drawn), axis=1)
    transformed = Argument.random(spec, np.random.default_rng(0)).array
    np.testing.assert_allclose(transformed, transform_weight(plain, 4), rtol=1e-6, atol=1e-6)


def test_small_products_and_those_of_few_rows_leave_no_choice(native: CpuTarget) -> None:
    few = [replace(EXTENTS, rows=32), replace(EXTENTS, rows=66), replace(EXTENTS, inner=128)]
    assert matmul_algorithm_tasks(dict.fromkeys(few, 1), native, model_bytes=0) == []
