"""Targets by name and in TVM's words, and what is refused."""

from __future__ import annotations

import json
import re

import pytest
import tvm
from tvm import te, tirx

from relaxc.passes.pipeline import forbid_aliasing
from relaxc.runtime.errors import TargetError
from relaxc.runtime.processor import missing_features, usable_cores
from relaxc.targets import registry
from relaxc.targets.cpu.machine import required_features
from relaxc.targets.registry import TARGETS, resolve


@pytest.mark.parametrize("name", TARGETS)
def test_every_name_resolves(name: str) -> None:
    target = resolve(name)
    assert str(target.tvm_target.kind.name) == "llvm"
    assert target.machine.cores == usable_cores()
    assert TARGETS[name].name == name
    assert TARGETS[name].description


@pytest.mark.parametrize(
    ("name", "lanes", "registers", "has", "lacks"),
    [
        ("x86-64-v3", 8, 16, "avx2", "avx512f"),
        ("x86-64-v4", 16, 32, "avx512vl", "avx512vnni"),
        ("sapphirerapids", 16, 32, "amx-tile", "sse4a"),
    ],
)
def test_a_name_stands_for_a_machine(name: str, lanes: int, registers: int, has: str, lacks: str) -> None:
    machine = resolve(name).machine
    assert machine.lanes("float32") == lanes
    assert machine.lanes("int8") == 4 * lanes
    assert machine.vector_registers == registers
    assert has in machine.features
    assert lacks not in machine.features


@pytest.mark.parametrize(
    "target", ["x86-64-v4", "sapphirerapids", {"kind": "llvm", "mcpu": "icelake-server"}]
)
def test_llvm_makes_whole_vectors_of_loops(target: str | dict[str, object]) -> None:
    x = te.placeholder((1 << 12,), "float32", name="x")
    root = te.create_prim_func([x, te.compute(x.shape, lambda i: tirx.sqrt(x[i]), name="root")])
    compiled = tvm.compile(forbid_aliasing()(tvm.IRModule({"main": root})), resolve(target).tvm_target)
    assembly = compiled.mod.inspect_source("asm")
    assert re.search(r"vsqrtps\s.*zmm", assembly)
    assert not re.search(r"vsqrtps\s.*ymm", assembly)


def test_halves_of_vectors_are_made_where_they_are_asked_for() -> None:
    target = resolve({"kind": "llvm", "mcpu": "x86-64-v4", "mattr": ["+prefer-256-bit"]})
    assert list(target.tvm_target.attrs["mattr"]) == ["+prefer-256-bit"]


def test_sapphire_rapids_has_its_caches() -> None:
    machine = resolve("sapphirerapids").machine
    assert (machine.l1_bytes, machine.l2_bytes) == (48 << 10, 2 << 20)


def test_native_code_runs_here() -> None:
    assert not missing_features(required_features(resolve("native").machine))


def test_a_target_may_be_given_in_tvms_words() -> None:
    target = resolve({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": 3})
    assert target.machine.cores == 3
    assert target.machine.vector_bytes == 32
    assert json.loads(target.description) == {"kind": "llvm", "mcpu": "x86-64-v3"}


def test_a_target_without_a_cpu_is_this_machines() -> None:
    assert resolve({"kind": "llvm"}).machine.vector_bytes >= resolve("native").machine.vector_bytes


def test_a_description_says_the_kind_of_machine_and_not_its_size() -> None:
    one, many = (resolve({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": n}) for n in (1, 64))
    assert one.description == many.description


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("abacus", "unknown target 'abacus': choose one of native"),
        ("", "unknown target ''"),
        ({}, "target kind None is not supported"),
        ({"kind": "cuda"}, "target kind 'cuda' is not supported"),
        ({"kind": "llvm", "mcpu": "pentium-9"}, "LLVM knows no CPU 'pentium-9'"),
        ({"kind": "llvm", "no-such-option": 1}, "TVM does not accept the target"),
        ({"kind": "llvm", "mcpu": 3}, "TVM does not accept the target"),
        ({"kind": "llvm", "mcpu": "x86-64-v3", "num-cores": "many"}, "num-cores"),
    ],
    ids=str,
)
def test_what_is_no_target_is_refused_in_one_line(target: str | dict[str, object], message: str) -> None:
    with pytest.raises(TargetError) as error:
        resolve(target)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_native_goes_without_amx_where_the_process_may_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm.target.codegen.llvm_get_system_cpu", lambda: "sapphirerapids")
    monkeypatch.setattr(
        registry, "missing_features", lambda needed: [f for f in needed if f.startswith("amx")]
    )
    features = registry.resolve("native").machine.features
    assert "avx512bf16" in features
    assert not any(feature.startswith("amx") for feature in features)
