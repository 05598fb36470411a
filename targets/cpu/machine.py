"""What a schedule must know about a processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.target import codegen

CACHE_LINE_BYTES = 64
"""Of every processor that the targets name."""
_VECTOR_FEATURES = ("avx", "fma", "f16c", "bmi2", "amx")


@dataclass(frozen=True)
class Machine:
    """A processor, as the templates see it.

    Attributes:
        cores: how many threads work on one kernel.
        vector_bytes: width of a vector register.
        vector_registers: how many of them an instruction can name.
        features: instruction-set features, under LLVM's names.
        l1_bytes, l2_bytes: data caches of one core.
        l3_bytes: the last cache, which cores share.
    """

    cores: int
    vector_bytes: int
    vector_registers: int
    features: frozenset[str]
    l1_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    l3_bytes: int = 16 << 20

    def lanes(self, dtype: str) -> int:
        """How many elements of ``dtype`` fill a vector."""
        return self.vector_bytes // int(tvm.DataType(dtype).itemsize)


def machine_of(target: tvm.target.Target, cores: int, caches: dict[int, int] | None = None) -> Machine:
    """The machine that the LLVM ``target`` describes.

    Args:
        target: names the processor.
        cores: threads for one kernel.
        caches: bytes of the data caches by level; cautious sizes are assumed for what is missing.
    """
    features = frozenset(str(feature) for feature in codegen.llvm_get_cpu_features(target))
    wide = "avx512f" in features
    caches = caches or {}
    return Machine(
        cores=cores,
        vector_bytes=64 if wide else 32 if "avx" in features else 16,
        vector_registers=32 if wide else 16,
        features=features,
        l1_bytes=caches.get(1, Machine.l1_bytes),
        l2_bytes=caches.get(2, Machine.l2_bytes),
        l3_bytes=caches.get(3, Machine.l3_bytes),
    )


def required_features(machine: Machine) -> tuple[str, ...]:
    """The features, named as in ``/proc/cpuinfo``, without which code for ``machine`` would be illegal."""
    return tuple(sorted(f.replace("-", "_") for f in machine.features if f.startswith(_VECTOR_FEATURES)))


def running_machine_caches() -> dict[int, int]:
    """Bytes of this machine's data caches by level, from sysfs; empty where that is missing."""
    found = {}
    for entry in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (_read(entry / name) for name in ("type", "level", "size"))
        if kind != "Instruction" and level.isdecimal() and size.endswith("K"):
            found[int(level)] = int(size[:-1]) << 10
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
