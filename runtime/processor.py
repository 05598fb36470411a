"""What this machine offers: the cores that the process may use and the CPU's features."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# Linux on x86-64: the system call, its request for a part of the processor's state, and that part's number.
_ARCH_PRCTL, _REQUEST_STATE, _TILE_DATA = 158, 0x1023, 18
_TILES = "amxtile"


def usable_cores() -> int:
    """How many threads can run at once: the affinity mask, and the container's CPU quota if that is less."""
    cores = len(allowed_cpus())
    quota = cgroup_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def default_threads() -> int:
    """Threads for one run: ``TVM_NUM_THREADS`` where the environment sets it, else all usable cores."""
    chosen = os.environ.get("TVM_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) > 0 else usable_cores()


def allowed_cpus() -> list[int]:
    """Numbers of the logical CPUs on which the scheduler may put this process."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cgroup_quota(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPU time per wall-clock time granted by control groups, version 1 or 2; None where there is no limit.

    A limit on an outer group holds as well, so the least of the chain counts
    (Linux kernel, Documentation/admin-guide/cgroup-v2.rst, ``cpu.max``).
    """
    quotas = [
        quota
        for folder in _cpu_group_folders(proc / "self" / "cgroup", mount)
        if (quota := _folder_quota(folder)) is not None
    ]
    return min(quotas, default=None)


def _cpu_group_folders(membership: Path, mount: Path) -> Iterable[Path]:
    """This process's CPU group and its parents, in either version's tree."""
    for line in _read(membership).splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            roots = (mount, mount / "unified")
        elif "cpu" in controllers.split(","):
            roots = (mount / "cpu", mount / controllers)
        else:
            continue
        relative = Path(path.lstrip("/"))
        for root in roots:
            yield from (root / part for part in (relative, *relative.parents))


def _folder_quota(folder: Path) -> float | None:
    microseconds, period = _read(folder / "cpu.max").split() or (None, None)
    if microseconds is None:
        microseconds = _read(folder / "cpu.cfs_quota_us").strip()
        period = _read(folder / "cpu.cfs_period_us").strip()
    if not microseconds or not period or microseconds in ("max", "-1"):
        return None
    return int(microseconds) / int(period)


@cache
def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction-set features, named as in ``/proc/cpuinfo``; where that is missing, as NumPy found them."""
    for line in _read(cpuinfo).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return _features_found_by_numpy()


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model as it calls itself; its architecture where it does not say."""
    for line in _read(cpuinfo).splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def missing_features(needed: Iterable[str]) -> list[str]:
    """Those of ``needed`` that this CPU lacks, or that the operating system keeps from this process."""
    needed = list(needed)
    present = {_without_underscores(feature) for feature in cpu_features()}
    if any(map(_is_tile_feature, needed)) and not (_TILES in present and may_use_tiles()):
        present -= {feature for feature in present if _is_tile_feature(feature)}
    return [feature for feature in needed if _without_underscores(feature) not in present]


@cache
def may_use_tiles() -> bool:
    """Asks Linux, once and for all threads of the process, for the state of AMX's tiles, which is large.

    Without that, the first tile instruction ends the process (Linux kernel,
    Documentation/arch/x86/xstate.rst).
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    result: int = ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_STATE, _TILE_DATA)
    return result == 0


def _is_tile_feature(feature: str) -> bool:
    return feature.startswith("amx")


def _features_found_by_numpy() -> frozenset[str]:
    import numpy

    found = numpy._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    names = (name.lower() for name, present in found.items() if present)
    return frozenset("fma" if name == "fma3" else name for name in names)


def _without_underscores(feature: str) -> str:
    return feature.replace("_", "")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
