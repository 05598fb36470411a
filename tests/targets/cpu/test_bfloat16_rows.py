"""What stands between products in bfloat16: softmax, normalisation, reductions, pooling, movement.

Each kernel reads and writes bfloat16 and computes in float32. Inputs are numbers that bfloat16 holds, so
results may be wrong by little more than their own rounding.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.targets.cpu.test_elementwise_kernels import random_elementwise
from tests.targets.cpu.test_layer_norm_kernels import random_norm
from tests.targets.cpu.test_pooling_kernels import random_pool as random_wide_pool
from tests.targets.cpu.test_reduction_kernels import random_reduction
from tests.targets.cpu.test_softmax_kernels import random_softmax
from tests.targets.kernel_workloads import Draw, Target, Workload, check

ROUNDING = 0.02


def random_pool(generator: np.random.Generator) -> Workload:
    """The largest of a window's narrow elements is found by arithmetic, not by a reduction."""
    workload = random_wide_pool(generator)
    narrow = "conv2d" in workload.templates and workload.description.startswith("max")
    return replace(workload, templates=workload.templates - {"reduction"}) if narrow else workload


FAMILIES = (random_softmax, random_norm, random_reduction, random_pool, random_elementwise)


class CoarseGenerator(np.random.Generator):
    """Draws normal numbers that bfloat16 holds."""

    def standard_normal(self, *arguments: Any, **options: Any) -> Any:
        exact = np.asarray(super().standard_normal(*arguments, **options))
        return exact.astype(ml_dtypes.bfloat16).astype(np.float64)


def check_coarse(draw: Draw, seed: int, target: Target, count: int) -> None:
    generator = CoarseGenerator(np.random.PCG64(seed))
    check([draw(generator) for _ in range(count)], target, tolerance=ROUNDING, dtype="bfloat16")


@pytest.mark.workloads_a_seed(10)
@pytest.mark.parametrize("draw", FAMILIES)
def test_random_kernels_agree_with_numpy(draw: Draw, seed: int, without_tiles: Target) -> None:
    check_coarse(draw, 2000 + seed, without_tiles, count=10)


def test_random_kernels_agree_with_numpy_on_avx2(avx2: str) -> None:
    for seed, draw in enumerate(FAMILIES):
        check_coarse(draw, 3000 + seed, avx2, count=2)
