"""The end-to-end benchmark measures what it says, on a small model."""

from __future__ import annotations

import re

from benchmarks.end_to_end import measure, report
from benchmarks.models.catalogue import ARCHITECTURES


def test_all_times_of_both_peers_are_reported() -> None:
    architecture = ARCHITECTURES["resnet18"]
    results = measure(architecture.reduced(1), architecture.reduced_feed(1, 0), rounds=1, threads=1)
    for peer in ("relaxc", "onnxruntime"):
        assert 0 < results["latency"][peer]["minimum"] <= results["latency"][peer]["median"]
        assert 0 < results["start"][peer]["load_and_first_run"] < results["start"][peer]["with_imports"]
    assert results["compile"] > 0
    rows = report("resnet18", results).splitlines()
    assert all(re.search(r"[\d.]+ ms +[\d.]+ ms +[\d.]+$", row) for row in rows[1:5])
