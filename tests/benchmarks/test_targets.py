"""Two targets of one model are compared by runs of both artifacts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import targets
from benchmarks.cpu import WORKLOADS, Workload
from benchmarks.models.catalogue import ARCHITECTURES
from relaxc.runtime.processor import missing_features


@pytest.mark.skipif(bool(missing_features(["avx2", "fma"])), reason="this CPU has no AVX2")
def test_both_targets_are_timed_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = ARCHITECTURES["resnet18"]
    small = Workload(architecture.reduced, lambda batch: architecture.reduced_feed(batch, 0))
    monkeypatch.setitem(WORKLOADS, "small", small)
    file = tmp_path / "results.json"
    options = ["--targets", "x86-64-v3", "native", "--launches=1", "--rounds=1", "--threads=1"]
    monkeypatch.setattr(sys, "argv", ["targets", "small", *options, "--json", str(file)])
    targets.main()
    (result,) = json.loads(file.read_text())
    one, other = (result["milliseconds"][target] for target in ("x86-64-v3", "native"))
    assert one > 0
    assert other > 0
    assert result["ratio"] == pytest.approx(other / one)
