"""What the process may use of the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relaxc.runtime import processor


def control_groups(root: Path, membership: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A /proc and a /sys/fs/cgroup below ``root``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(membership)
    for name, content in files.items():
        file = root / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root / "proc", root / "cgroup"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/box\n", {"box/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/box/inner\n", {"box/cpu.max": "200000 100000", "box/inner/cpu.max": "max 100000"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/not-visible-from-here\n", {"cpu.max": "300000 100000"}, 3.0),
        (
            "2:cpu,cpuacct:/box\n0::/\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "50000", "cpu,cpuacct/box/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("", {}, None),
    ],
)
def test_cpu_quotas_of_both_cgroup_versions_are_read(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    assert processor.cgroup_quota(*control_groups(tmp_path, membership, files)) == quota


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (2.5, 2), (0.3, 1), (16.0, 4)])
def test_usable_cores_are_the_lesser_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int
) -> None:
    monkeypatch.setattr(processor, "allowed_cpus", lambda: [1, 3, 5, 7])
    monkeypatch.setattr(processor, "cgroup_quota", lambda: quota)
    assert processor.usable_cores() == cores


def test_the_affinity_mask_is_respected() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        assert processor.allowed_cpus() == [max(before)]
        assert processor.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_features_are_those_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "x86").write_text("processor : 0\nflags\t\t: fpu avx2 avx512_vnni\n\nflags : other\n")
    (tmp_path / "arm").write_text("Features\t: fp asimd sve\n")
    assert processor.cpu_features(tmp_path / "x86") == {"fpu", "avx2", "avx512_vnni"}
    assert processor.cpu_features(tmp_path / "arm") == {"fp", "asimd", "sve"}


def test_without_cpuinfo_numpy_knows_the_features(tmp_path: Path) -> None:
    found = processor.cpu_features(tmp_path / "missing")
    known = {feature.replace("_", "") for feature in processor.cpu_features()}
    assert found
    assert {"avx2", "fma", "avx512f", "asimd"} & found == {"avx2", "fma", "avx512f", "asimd"} & known


def test_missing_features_are_listed_in_order() -> None:
    present = sorted(processor.cpu_features())[0]
    assert processor.missing_features(["zzz", present, "aaa"]) == ["zzz", "aaa"]


def test_tiles_that_the_system_keeps_back_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "cpu_features", lambda: frozenset({"amx_tile", "amx_bf16", "avx2"}))
    monkeypatch.setattr(processor, "may_use_tiles", lambda: False)
    assert processor.missing_features(["amx_bf16", "amx_tile", "avx2"]) == ["amx_bf16", "amx_tile"]
    monkeypatch.setattr(processor, "may_use_tiles", lambda: True)
    assert processor.missing_features(["amx_bf16", "amx_tile", "avx2"]) == []


def test_tiles_are_not_asked_for_where_nothing_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "may_use_tiles", lambda: pytest.fail("asked"))
    processor.missing_features(["avx2"])
