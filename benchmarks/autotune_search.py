"""How many trials a search needs: the cost model's against chance.

    python -m benchmarks.autotune_search --table search.json [--points 256] [--tasks 10] [--seeds 3]

Every task is a convolution of a well-known network. First each of ``--points`` schedules of every task is
measured once and kept in the table; a run that is interrupted goes on with it. Then the searches are replayed
on the table, so all of them meet the same times. What counts is how many trials a search needs to find a
schedule that reaches 95 % of the speed of the best one in the table. All start with nothing known of it. The
search with the cost model proposes the template's default first, as it does in a session; it is also
replayed without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from relaxc.autotune.local_measurer import LocalMeasurer
from relaxc.autotune.measurement import RunOptions
from relaxc.autotune.search import SEARCHES, History, Search
from relaxc.autotune.space import SearchSpace
from relaxc.autotune.tasks import Task, extract_tasks
from relaxc.compiler.driver import fuse
from relaxc.compiler.options import CompileOptions
from relaxc.runtime.atomic_file import atomic_file
from relaxc.runtime.processor import default_threads
from relaxc.targets.registry import CpuTarget, resolve

GOAL = 0.95
BATCH = 4


@dataclass(frozen=True)
class Convolution:
    """A convolution with bias and ReLU on a square image."""

    name: str
    size: int
    inputs: int
    outputs: int
    window: int
    stride: int = 1


CONVOLUTIONS = (
    Convolution("resnet 1x1 56 64-64", 56, 64, 64, 1),
    Convolution("resnet 3x3 56 64-64", 56, 64, 64, 3),
    Convolution("resnet 1x1 56 256-128", 56, 256, 128, 1),
    Convolution("resnet 3x3/2 56 128-128", 56, 128, 128, 3, 2),
    Convolution("resnet 1x1 28 512-256", 28, 512, 256, 1),
    Convolution("resnet 3x3 14 256-256", 14, 256, 256, 3),
    Convolution("resnet 3x3 7 512-512", 7, 512, 512, 3),
    Convolution("mobilenet 1x1 112 16-96", 112, 16, 96, 1),
    Convolution("mobilenet 1x1 14 384-64", 14, 384, 64, 1),
    Convolution("yolo 3x3 40 64-64", 40, 64, 64, 3),
)


def main() -> None:
    """Fills the table and prints how many trials each search needed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="times of all schedules (.json)")
    parser.add_argument("--points", type=int, default=256, help="schedules of a task, drawn at random")
    parser.add_argument("--tasks", type=int, default=len(CONVOLUTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    target = resolve("native")
    tasks = [restricted(task_of(c, target), arguments.points) for c in CONVOLUTIONS[: arguments.tasks]]
    table = fill(arguments.table, tasks, target)
    print(report(tasks, table, range(arguments.seeds)))


def task_of(convolution: Convolution, target: CpuTarget) -> Task:
    """The tuning task of a convolution, as it would be in a model."""
    c, pad = convolution, convolution.window // 2
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((c.outputs, c.inputs, c.window, c.window)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[pad] * 4, strides=[c.stride] * 2),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, c.inputs, c.size, c.size])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(c.outputs, np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    fused = fuse(model, "native", None, None, CompileOptions())
    found = max(extract_tasks(fused.module, target).tasks, key=lambda task: task.flops)
    return replace(found, names=(convolution.name,))


def restricted(task: Task, points: int) -> Task:
    """``task`` with some of its space, the default among it."""
    everything = [task.space.knobs(point) for point in range(len(task.space))]
    drawn = np.random.default_rng(0).permutation(len(everything))[: points - 1]
    chosen = [task.default, *(everything[i] for i in drawn if everything[i] != dict(task.default))]
    return replace(task, space=SearchSpace(chosen))


def fill(path: Path, tasks: Sequence[Task], target: CpuTarget) -> dict[str, dict[str, float]]:
    """Measures what the table lacks; the gain over the default of every point, by the knobs' text."""
    table: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    measurer = LocalMeasurer(RunOptions(default_threads(), repetitions=(10, 40)))
    for task in tasks:
        known = table.setdefault(f"{task.name} {task.kernel}", {})
        missing = [p for p in range(len(task.space)) if _text(task, p) not in known]
        for first in range(0, len(missing), 16):
            batch = missing[first : first + 16]
            groups = [
                [task.candidate(None, target), task.candidate(task.space.knobs(p), target)] for p in batch
            ]
            for point, (default, found) in zip(batch, measurer.measure(groups), strict=True):
                known[_text(task, point)] = default.median / found.median if found.ok else 0.0
            with atomic_file(path) as stream:
                stream.write(json.dumps(table, indent=1).encode())
            print(f"{task.name}: {len(known)} of {len(task.space)}", file=sys.stderr, flush=True)
    return table


def _text(task: Task, point: int) -> str:
    return " ".join(f"{name}={value}" for name, value in task.space.knobs(point).items())


def trials_needed(search: Search, task: Task, gains: Mapping[int, float], seed: int) -> int:
    """Replays ``search`` until it finds a schedule that reaches the goal."""
    goal = GOAL * max(gains.values())
    history = History()
    while True:
        generator = np.random.default_rng([seed, len(history.gains)])
        for proposal in search.propose(task, [(task, history)], BATCH, generator):
            history.gains[proposal.point] = gains[proposal.point]
            if gains[proposal.point] >= goal:
                return len(history.gains)


def report(tasks: Sequence[Task], table: Mapping[str, Mapping[str, float]], seeds: Sequence[int]) -> str:
    """A table in Markdown, and the medians."""
    lines = [
        f"| task | default of best | random | xgboost | xgboost, no default |\n{'|---' * 5}|",
    ]
    needed: dict[str, list[int]] = {"random": [], "xgboost": [], "without": []}
    for task in tasks:
        known = table[f"{task.name} {task.kernel}"]
        gains = {point: known[_text(task, point)] for point in range(len(task.space))}
        kinds: dict[str, tuple[str, Any]] = {
            "random": ("random", task),
            "xgboost": ("xgboost", task),
            "without": ("xgboost", replace(task, default={})),
        }
        counts = {
            kind: [trials_needed(SEARCHES[name](), task_seen, gains, seed) for seed in seeds]
            for kind, (name, task_seen) in kinds.items()
        }
        for kind, trials in counts.items():
            needed[kind] += trials
        cells = " | ".join(f"{statistics.median(trials):g}" for trials in counts.values())
        default = task.space.find(task.default)
        part = gains[default] / max(gains.values()) if default is not None else 0.0
        lines.append(f"| {task.name} | {part:.0%} | {cells} |")
    medians = {kind: statistics.median(trials) for kind, trials in needed.items()}
    lines.append(
        f"\nMedian trials to {GOAL:.0%} of the best: random {medians['random']:g}, "
        f"xgboost {medians['xgboost']:g} ({medians['xgboost'] / medians['random']:.2f} of random), "
        f"without the default {medians['without']:g} ({medians['without'] / medians['random']:.2f})"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
