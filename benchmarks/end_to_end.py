"""From the ONNX file to results beside ONNX Runtime: compile time, start-up, latency.

Run it as ``python -m benchmarks.end_to_end`` in the root folder, on a quiet machine (ResNet-18 by default).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from relaxc.runtime.processor import default_threads

from .models.catalogue import ARCHITECTURES, Feed
from .onnxruntime_peer import OnnxRuntimeModel
from .turns import take_turns

# Programs for fresh processes. Each prints the seconds from the start of its imports to the first result,
# and from the start of loading to the first result.
_START_RELAXC = """
import sys, time
begun = time.perf_counter()
import numpy
import relaxc.runtime
started = time.perf_counter()
relaxc.runtime.load(sys.argv[1]).run(dict(numpy.load(sys.argv[2])))
ended = time.perf_counter()
print(ended - begun, ended - started)
"""
_START_ONNXRUNTIME = """
import sys, time
begun = time.perf_counter()
import numpy
import onnxruntime
started = time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, dict(numpy.load(sys.argv[2])))
ended = time.perf_counter()
print(ended - begun, ended - started)
"""


@dataclass(frozen=True)
class Files:
    """What the processes of the peers read."""

    model: Path
    artifact: Path
    feed: Path


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["resnet18"], help=f"of {', '.join(ARCHITECTURES)}")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default: 5)")
    arguments = parser.parse_args()
    if unknown := set(arguments.models) - set(ARCHITECTURES):
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")
    threads = default_threads()
    print(f"batch 1, fp32, {threads} threads, {_processor()}")
    results = {}
    for name in arguments.models:
        architecture = ARCHITECTURES[name]
        results[name] = measure(architecture.full(1), architecture.full_feed(1, 0), arguments.rounds, threads)
        print(f"\n{report(name, results[name])}")
    if arguments.json:
        record = {"processor": _processor(), "threads": threads, "results": results}
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


def measure(model: onnx.ModelProto, feed: Feed, rounds: int, threads: int) -> dict[str, Any]:
    """All results of one model in seconds; those of start-up and latency by peer."""
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder) / "model.onnx", Path(folder) / "model.so", Path(folder) / "feed.npz")
        onnx.save(model, files.model)
        np.savez(files.feed, **cast(dict[str, Any], feed))
        return {
            "compile": _compile(files),
            "start": _start_times(files, threads, rounds),
            "latency": _latencies(files, threads, rounds),
        }


def _compile(files: Files) -> float:
    import relaxc

    compile = relaxc.compile  # imports the compiler
    started = time.perf_counter()
    compile(files.model).save(files.artifact)
    return time.perf_counter() - started


def _start_times(files: Files, threads: int, rounds: int) -> dict[str, Any]:
    """Medians over fresh processes, the peers in turns, after one round that warms the disk cache."""
    programs = {
        "relaxc": [_START_RELAXC, str(files.artifact), str(files.feed)],
        "onnxruntime": [_START_ONNXRUNTIME, str(files.model), str(files.feed), str(threads)],
    }
    times: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, program in programs.items():
            output = subprocess.run(
                [sys.executable, "-c", *program], check=True, capture_output=True, text=True
            ).stdout
            times[name].append([float(part) for part in output.split()])
    medians = {name: np.median(values[1:], axis=0) for name, values in times.items()}
    return {
        name: {"with_imports": float(m[0]), "load_and_first_run": float(m[1])} for name, m in medians.items()
    }


def _latencies(files: Files, threads: int, rounds: int) -> dict[str, Any]:
    records = take_turns(
        {
            "relaxc": (_relaxc_call, (files, threads)),
            "onnxruntime": (_onnxruntime_call, (files, threads)),
        },
        rounds,
    )
    return {
        name: {"median": statistics.median(record.seconds), "minimum": min(record.seconds)}
        for name, record in records.items()
    }


def _relaxc_call(files: Files, threads: int) -> Callable[[], object]:
    import relaxc.runtime

    executable = relaxc.runtime.load(files.artifact, num_threads=threads)
    feed = dict(np.load(files.feed))
    return lambda: executable.run(feed)


def _onnxruntime_call(files: Files, threads: int) -> Callable[[], object]:
    session = OnnxRuntimeModel(files.model, threads)
    feed = dict(np.load(files.feed))
    return lambda: session.run(feed)


def _processor() -> str:
    """The processor's name as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(name: str, results: dict[str, Any]) -> str:
    """The results of one model as a table."""
    latency, start = results["latency"], results["start"]
    return "\n".join(
        [
            f"{name:32}{'relaxc':>10}{'ONNX Runtime':>16}{'ratio':>8}",
            _row("latency, median", latency, "median"),
            _row("latency, minimum", latency, "minimum"),
            _row("load and first run", start, "load_and_first_run"),
            _row("imports, load and first run", start, "with_imports"),
            f"{'compile':32}{results['compile']:8.1f} s",
        ]
    )


def _row(label: str, results: dict[str, Any], key: str) -> str:
    ours, theirs = (1e3 * results[name][key] for name in ("relaxc", "onnxruntime"))
    return f"{label:32}{ours:7.2f} ms{theirs:13.2f} ms{ours / theirs:8.2f}"


if __name__ == "__main__":
    main()
