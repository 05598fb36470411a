"""ResNet-18 from the ONNX file to results, beside ONNX Runtime: compile time, start-up, latency.

Run it as ``python -m benchmarks.end_to_end`` in the root folder, on a quiet machine.
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
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from relaxc.runtime.processor import default_threads

from .models.catalogue import ARCHITECTURES
from .onnxruntime_peer import OnnxRuntimeModel
from .turns import take_turns

_MODEL = "resnet18"

# Programs for fresh processes. Each prints the seconds from the start of its imports to the first result,
# and from the start of loading to the first result.
_START_RELAXC = """
import sys, time
begun = time.perf_counter()
import numpy
import relaxc.runtime
started = time.perf_counter()
relaxc.runtime.load(sys.argv[1]).run({"image": numpy.load(sys.argv[2])})
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
session.run(None, {"image": numpy.load(sys.argv[2])})
ended = time.perf_counter()
print(ended - begun, ended - started)
"""


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default: 5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), arguments.rounds)
    print(_report(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """All results: seconds, medians."""
    architecture = ARCHITECTURES[_MODEL]
    model, artifact, image = folder / "model.onnx", folder / "model.so", folder / "image.npy"
    onnx.save(architecture.full(1), model)
    np.save(image, architecture.full_feed(1, 0)["image"])
    threads = default_threads()
    compile_seconds = _compile(model, artifact)
    return {
        "machine": {"processor": _processor(), "threads": threads},
        "model": _MODEL,
        "compile_seconds": compile_seconds,
        "start_seconds": _start_times(model, artifact, image, threads, rounds),
        "latency_seconds": _latencies(model, artifact, image, threads, rounds),
    }


def _compile(model: Path, artifact: Path) -> float:
    import relaxc

    started = time.perf_counter()
    relaxc.compile(model).save(artifact)
    return time.perf_counter() - started


def _start_times(model: Path, artifact: Path, image: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Medians over fresh processes, the peers in turns, after one round that warms the disk cache."""
    programs = {
        "relaxc": [_START_RELAXC, str(artifact), str(image)],
        "onnxruntime": [_START_ONNXRUNTIME, str(model), str(image), str(threads)],
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


def _latencies(model: Path, artifact: Path, image: Path, threads: int, rounds: int) -> dict[str, Any]:
    times = take_turns(
        {
            "relaxc": (_relaxc_call, (artifact, image, threads)),
            "onnxruntime": (_onnxruntime_call, (model, image, threads)),
        },
        rounds,
    )
    return {name: {"median": statistics.median(t), "minimum": min(t)} for name, t in times.items()}


def _relaxc_call(artifact: Path, image: Path, threads: int) -> Callable[[], object]:
    import relaxc.runtime

    executable = relaxc.runtime.load(artifact, num_threads=threads)
    feed: dict[str, NDArray[Any]] = {"image": np.load(image)}
    return lambda: executable.run(feed)


def _onnxruntime_call(model: Path, image: Path, threads: int) -> Callable[[], object]:
    session = OnnxRuntimeModel(model, threads)
    feed: dict[str, NDArray[Any]] = {"image": np.load(image)}
    return lambda: session.run(feed)


def _processor() -> str:
    """The processor's name as the system gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _report(results: dict[str, Any]) -> str:
    machine, latency, start = results["machine"], results["latency_seconds"], results["start_seconds"]
    ratio = latency["relaxc"]["median"] / latency["onnxruntime"]["median"]
    lines = [
        f"{results['model']}, batch 1, fp32, {machine['threads']} threads, {machine['processor']}",
        f"compile (relaxc)                {results['compile_seconds']:8.1f} s",
        f"{'':32}{'relaxc':>10}{'ONNX Runtime':>16}{'ratio':>8}",
        _row("latency, median", latency, "median") + f"{ratio:8.2f}",
        _row("latency, minimum", latency, "minimum"),
        _row("load and first run", start, "load_and_first_run"),
        _row("imports, load and first run", start, "with_imports"),
    ]
    return "\n".join(lines)


def _row(label: str, results: dict[str, Any], key: str) -> str:
    ours, theirs = (1e3 * results[name][key] for name in ("relaxc", "onnxruntime"))
    return f"{label:32}{ours:7.2f} ms{theirs:13.2f} ms"


if __name__ == "__main__":
    main()
