"""Targets, and how many random workloads the tests of kernels draw."""

from __future__ import annotations

import os

import pytest

from relaxc.runtime.processor import missing_features
from relaxc.targets.registry import resolve
from tests.targets.kernel_workloads import WORKLOADS_A_SEED, Target


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seed`` runs with as many seeds as the workloads that are wanted need.

    It draws ``WORKLOADS_A_SEED`` a seed, or what its mark ``workloads_a_seed`` says.
    """
    if "seed" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("workloads_a_seed")
        a_seed = mark.args[0] if mark else WORKLOADS_A_SEED
        wanted = int(os.environ.get("RELAXC_WORKLOADS", a_seed))
        metafunc.parametrize("seed", range(max(1, -(-wanted // a_seed))))


@pytest.fixture
def avx2() -> str:
    """The target that stands for AVX2."""
    if missing_features(["avx2", "fma"]):
        pytest.skip("this CPU has no AVX2")
    return "x86-64-v3"


@pytest.fixture
def without_tiles() -> Target:
    """This machine; one that lacks AMX where this one has it, which ``test_tile_products`` is about."""
    if "amx-bf16" not in resolve("native").machine.features:
        return "native"
    return {"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["+avx512bf16"]}
