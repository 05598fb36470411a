"""What the templates know about a processor."""

from __future__ import annotations

import tvm

from relaxc.targets.cpu.machine import Machine, machine_of, required_features, running_machine_caches


def machine(mcpu: str, caches: dict[int, int] | None = None) -> Machine:
    return machine_of(tvm.target.Target({"kind": "llvm", "mcpu": mcpu}), 2, caches)


def test_lanes_fill_a_vector() -> None:
    narrow, wide = machine("x86-64-v3"), machine("x86-64-v4")
    assert [narrow.lanes(dtype) for dtype in ("float64", "float32", "float16", "int8")] == [4, 8, 16, 32]
    assert [wide.lanes(dtype) for dtype in ("float64", "float32", "bfloat16", "int8")] == [8, 16, 32, 64]


def test_a_processor_without_avx_has_vectors_of_16_bytes() -> None:
    assert machine("x86-64").vector_bytes == 16


def test_caches_are_what_was_found_or_else_cautious() -> None:
    assert machine("x86-64-v3").l2_bytes == Machine.l2_bytes
    found = machine("x86-64-v3", {1: 48 << 10, 2: 2 << 20, 3: 64 << 20})
    assert (found.l1_bytes, found.l2_bytes, found.l3_bytes) == (48 << 10, 2 << 20, 64 << 20)
    assert machine("x86-64-v3", {2: 1 << 19}).l1_bytes == Machine.l1_bytes


def test_required_features_are_those_of_vectors_under_the_kernels_names() -> None:
    assert required_features(machine("x86-64")) == ()
    assert {"avx", "avx2", "fma", "f16c", "bmi2"} <= set(required_features(machine("x86-64-v3")))
    features = required_features(machine("sapphirerapids"))
    assert {"avx512f", "avx512_bf16", "amx_tile"} & set(features)
    assert all("-" not in feature for feature in features)
    assert list(features) == sorted(features)


def test_this_machines_caches_grow_with_their_level() -> None:
    caches = running_machine_caches()
    assert all(size >= 1024 for size in caches.values())
    assert [caches[level] for level in sorted(caches)] == sorted(caches.values())
