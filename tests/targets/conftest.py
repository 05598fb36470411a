"""How many random workloads the tests of kernels draw: RELAXC_WORKLOADS a family, 40 if not told."""

from __future__ import annotations

import os

import pytest

from relaxc.runtime.processor import missing_features
from tests.targets.kernel_workloads import WORKLOADS_A_SEED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seed`` runs once for every ``WORKLOADS_A_SEED`` workloads wanted."""
    if "seed" in metafunc.fixturenames:
        wanted = int(os.environ.get("RELAXC_WORKLOADS", WORKLOADS_A_SEED))
        metafunc.parametrize("seed", range(max(1, -(-wanted // WORKLOADS_A_SEED))))


@pytest.fixture
def avx2() -> str:
    """The target that stands for AVX2."""
    if missing_features(["avx2", "fma"]):
        pytest.skip("this CPU has no AVX2")
    return "x86-64-v3"
