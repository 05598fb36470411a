"""The targets that a user can name. A new target is one entry here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from ..runtime.errors import TargetError
from ..runtime.processor import missing_features, usable_cores
from .cpu.machine import Machine, machine_of, required_features, running_machine_caches


@dataclass(frozen=True)
class CpuTarget:
    """What a target's name stands for.

    Attributes:
        tvm_target: what TVM generates code for.
        machine: what the templates schedule for.
    """

    tvm_target: tvm.target.Target
    machine: Machine

    @property
    def mcpu(self) -> str:
        """The processor, under LLVM's name."""
        return str(self.tvm_target.attrs["mcpu"])

    @property
    def description(self) -> str:
        """The target as JSON text, without what differs between machines of one kind."""
        return json.dumps({"kind": "llvm", "mcpu": self.mcpu}, sort_keys=True)


@dataclass(frozen=True)
class TargetSpec:
    """An entry of the registry.

    Attributes:
        name: what a user types.
        description: one line for ``relaxc targets``.
        resolve: makes the target.
    """

    name: str
    description: str
    resolve: Callable[[], CpuTarget]


def resolve(target: str | Mapping[str, Any]) -> CpuTarget:
    """The target behind a name of ``TARGETS``, or behind a TVM target given as a dict.

    Raises:
        TargetError: it is unknown, or no CPU that LLVM knows.
    """
    if isinstance(target, str):
        spec = TARGETS.get(target)
        if spec is None:
            raise TargetError(
                f"unknown target {target!r}: choose one of {', '.join(TARGETS)}, or pass a TVM target"
            )
        return spec.resolve()
    return _from_tvm(dict(target))


def _from_tvm(config: dict[str, Any]) -> CpuTarget:
    if config.get("kind") != "llvm":
        raise TargetError(f"target kind {config.get('kind')!r} is not supported: only 'llvm' (CPUs) is")
    try:
        target = _llvm_target({"mcpu": codegen.llvm_get_system_cpu(), **config})
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise TargetError(
            f"TVM does not accept the target {config}: {str(error).splitlines()[-1]}"
        ) from error
    if not codegen.llvm_is_valid_cpu(str(target.attrs["mcpu"]), _triple(target)):
        raise TargetError(f"LLVM knows no CPU {target.attrs['mcpu']!r}: see `llc -mcpu=help` for the names")
    return CpuTarget(target, machine_of(target, int(config.get("num-cores", usable_cores()))))


def _triple(target: tvm.target.Target) -> str:
    return str(target.attrs.get("mtriple") or codegen.llvm_get_system_triple())


def _llvm_target(config: Mapping[str, Any]) -> tvm.target.Target:
    """The TVM target ``config``, with whole vectors wherever LLVM makes vectors of loops by itself.

    For Intel's processors with AVX-512 it would make halves, since the first of them lowered their clock for
    whole ones. The kernels compute with whole vectors anyway, so halves save nothing there.
    """
    target = tvm.target.Target({"kind": "llvm", **config})
    asked = [str(flag) for flag in target.attrs.get("mattr") or ()]
    features = map(str, codegen.llvm_get_cpu_features(target))
    if _HALF_VECTORS not in features or f"+{_HALF_VECTORS}" in asked:
        return target
    return tvm.target.Target({"kind": "llvm", **config, "mattr": [*asked, f"-{_HALF_VECTORS}"]})


def _named(mcpu: str, caches: dict[int, int] | None = None) -> CpuTarget:
    target = _llvm_target({"mcpu": mcpu})
    return CpuTarget(target, machine_of(target, usable_cores(), caches))


_HALF_VECTORS = "prefer-256-bit"
_SAPPHIRE_RAPIDS_CACHES = {1: 48 << 10, 2: 2 << 20}

# An operating system may keep AMX alone from a process.
_NO_TILES = ["-amx-tile", "-amx-bf16", "-amx-int8", "-amx-fp16"]


def _native() -> CpuTarget:
    """This machine; where it hides features that its model has (virtual machines do), the level it offers."""
    caches = running_machine_caches()
    cpu = str(codegen.llvm_get_system_cpu())
    choices: list[dict[str, Any]] = [{"mcpu": cpu}, {"mcpu": cpu, "mattr": _NO_TILES}]
    choices += [{"mcpu": level} for level in ("x86-64-v4", "x86-64-v3", "x86-64")]
    for choice in choices:
        target = _llvm_target(choice)
        machine = machine_of(target, usable_cores(), caches)
        if not missing_features(required_features(machine)):
            break
    return CpuTarget(target, machine)


TARGETS: dict[str, TargetSpec] = {
    spec.name: spec
    for spec in (
        TargetSpec("native", "this machine's CPU, with every feature it has", _native),
        TargetSpec("x86-64-v3", "x86 with AVX2 and FMA (2013 on)", lambda: _named("x86-64-v3")),
        TargetSpec("x86-64-v4", "x86 with AVX-512 (F, BW, CD, DQ, VL)", lambda: _named("x86-64-v4")),
        TargetSpec(
            "sapphirerapids",
            "x86 with AVX-512, VNNI, BF16 and AMX",
            lambda: _named("sapphirerapids", _SAPPHIRE_RAPIDS_CACHES),
        ),
    )
}
