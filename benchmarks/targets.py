"""Speed of whole models on one CPU target relative to another, both on this machine.

    python -m benchmarks.targets [--targets x86-64-v3 x86-64-v4] [--launches 3] [--json FILE] [MODEL ...]

Every model of ``benchmarks.cpu`` is compiled for both targets. The artifacts take turns, each in a process of
its own, in new processes now and then, since where memory comes to lie differs between processes. A ratio of
1 says that the first target is as fast as the second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from relaxc.runtime.processor import default_threads

from .cpu import WORKLOADS, geometric_mean, relaxc_call
from .turns import take_turns


@dataclass(frozen=True)
class Plan:
    """How to measure: the two targets, processes of each, turns in a process, threads of a call."""

    targets: tuple[str, str]
    launches: int
    rounds: int
    threads: int


@dataclass(frozen=True)
class Comparison:
    """What one model came to.

    Attributes:
        model: its name.
        milliseconds: median of the calls, by target.
        ratio: speed of the first target relative to the second.
    """

    model: str
    milliseconds: dict[str, float]
    ratio: float


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--targets", nargs=2, default=("x86-64-v3", "x86-64-v4"), metavar=("ONE", "OTHER"))
    parser.add_argument("--launches", type=int, default=3, help="processes of each artifact (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="turns in a process (default: 3)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of a call (default: all)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.models) - set(WORKLOADS):
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")
    one, other = arguments.targets
    if one == other:
        parser.error("--targets: name two different ones")
    plan = Plan((one, other), arguments.launches, arguments.rounds, arguments.threads)
    results = list(_comparisons(arguments.models, plan))
    print(f"geometric mean of the ratios: {geometric_mean(result.ratio for result in results):.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def _comparisons(models: Sequence[str], plan: Plan) -> Iterator[Comparison]:
    one, other = plan.targets
    print(f"{plan.threads} threads, medians in ms; ratio: speed of {one} / speed of {other}")
    print(f"{'model':16}{one:>16}{other:>16}{'ratio':>8}")
    for name in models:
        result = compare(name, plan)
        times = "".join(f"{result.milliseconds[target]:16.2f}" for target in plan.targets)
        print(f"{name:16}{times}{result.ratio:8.3f}", flush=True)
        yield result


def compare(name: str, plan: Plan) -> Comparison:
    """One model at batch 1. Raises SystemExit if an artifact does not run on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        _compile(name, Path(folder), plan.targets)
        seconds = _seconds(name, Path(folder), plan)
    medians = {target: statistics.median(times) for target, times in seconds.items()}
    one, other = (medians[target] for target in plan.targets)
    return Comparison(name, {target: 1e3 * median for target, median in medians.items()}, other / one)


def _compile(name: str, folder: Path, targets: Sequence[str]) -> None:
    import relaxc

    workload = WORKLOADS[name]
    feed = workload.feed(1)
    onnx.save(workload.build(1), folder / "model.onnx")
    np.savez(folder / "feed.npz", allow_pickle=False, **feed)
    shapes = {key: array.shape for key, array in feed.items()}
    for target in targets:
        relaxc.compile(folder / "model.onnx", target, shapes=shapes).save(folder / f"{target}.so")


def _seconds(name: str, folder: Path, plan: Plan) -> dict[str, list[float]]:
    """Of every call, by target."""
    peers = {
        target: (relaxc_call, (folder / f"{target}.so", folder / "feed.npz", plan.threads))
        for target in plan.targets
    }
    seconds: dict[str, list[float]] = {target: [] for target in plan.targets}
    for _ in range(plan.launches):
        for target, record in take_turns(peers, plan.rounds).items():
            if record.failure:
                raise SystemExit(f"{name} for {target}: {record.failure}")
            seconds[target] += record.seconds
    return seconds


if __name__ == "__main__":
    main()
