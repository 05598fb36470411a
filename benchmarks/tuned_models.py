"""What tuning is worth: whole models, untuned and tuned, in turns.

    python -m benchmarks.tuned_models [--minutes 10] [--metaschedule] [--models resnet50 ...] [--json FILE]

Every model is tuned for some minutes (``relaxc tune``, whose records go on where an earlier run ended),
compiled with and without the records, and both artifacts run in turns. With ``--metaschedule`` the tuner that
TVM has gets the same minutes on the same machine, with TVM's own pipeline.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from relaxc.runtime.processor import default_threads

from .models import published
from .models.catalogue import ARCHITECTURES, Feed
from .turns import Setup, take_turns

MODELS = ("resnet50", "mobilenet_v2", "bert_base", "nudenet")
_NUDENET = "nudenet_320n"
_LAUNCHES = 5


@dataclass(frozen=True)
class Files:
    """What belongs to one model, in one folder."""

    folder: Path
    name: str

    def path(self, suffix: str) -> Path:
        """A file of the model."""
        return self.folder / f"{self.name}{suffix}"


def main() -> None:
    """Tunes and compares the models that are named, and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--folder", type=Path, default=Path("build/tuned"), help="records and artifacts")
    parser.add_argument("--rounds", type=int, default=3, help="turns in a process")
    parser.add_argument("--metaschedule", action="store_true", help="give TVM's tuner the same minutes")
    parser.add_argument("--json", type=Path, help="write the times here")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in arguments.models:
        files = Files(arguments.folder, name)
        prepare(files, arguments.minutes, arguments.metaschedule)
        results[name] = compare(files, arguments.rounds, arguments.metaschedule)
        print(row(name, results[name]), flush=True)
    gains = [times["untuned"] / times["tuned"] for times in results.values()]
    print(f"geometric mean of the gains: {math.prod(gains) ** (1 / len(gains)):.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def load(name: str) -> tuple[onnx.ModelProto, Feed]:
    """A model with fixed shapes, and input for it."""
    if name == "nudenet":
        model = published.load(_NUDENET)
        return model, {"images": np.random.default_rng(0).random((1, 3, 320, 320), dtype=np.float32)}
    architecture = ARCHITECTURES[name]
    return architecture.full(1), architecture.full_feed(1, 0)


def prepare(files: Files, minutes: float, metaschedule: bool) -> None:
    """Tunes the model and compiles it in all ways."""
    import relaxc

    model, feed = load(files.name)
    onnx.save(model, files.path(".onnx"))
    np.savez(files.path(".npz"), allow_pickle=False, **feed)
    shapes = [f"--shape={name}:{','.join(map(str, array.shape))}" for name, array in feed.items()]
    tune = [sys.executable, "-m", "relaxc", "tune", str(files.path(".onnx")), *shapes]
    records = files.path(".records")
    subprocess.run([*tune, "-o", str(records), f"--minutes={minutes}"], check=True)
    bound = {name: array.shape for name, array in feed.items()}
    for kind, used in (("untuned", None), ("tuned", records)):
        compiled = relaxc.compile(files.path(".onnx"), shapes=bound, tuning_records=used)
        compiled.save(files.path(f".{kind}.so"))
    if metaschedule:
        from .metaschedule_peer import tune_for

        tune_for(minutes, files.path(".onnx"), bound, files.path(".metaschedule.so"))


def compare(files: Files, rounds: int, metaschedule: bool) -> dict[str, float]:
    """The median seconds of each artifact; they take turns, in new processes now and then, since where memory
    comes to lie differs between processes.
    """
    peers: dict[str, tuple[Setup, tuple[Any, ...]]] = {
        kind: (relaxc_call, (files, kind)) for kind in ("untuned", "tuned")
    }
    if metaschedule:
        from .metaschedule_peer import artifact_call

        peers["metaschedule"] = (artifact_call, (files.path(".metaschedule.so"), files.path(".npz")))
    seconds: dict[str, list[float]] = {kind: [] for kind in peers}
    for _ in range(_LAUNCHES):
        for kind, record in take_turns(peers, rounds=rounds).items():
            if record.failure:
                raise SystemExit(f"{files.name} {kind}: {record.failure}")
            seconds[kind] += record.seconds
    return {kind: statistics.median(times) for kind, times in seconds.items()}


def relaxc_call(files: Files, kind: str) -> Callable[[], object]:
    """One run of an artifact."""
    import relaxc.runtime

    executable = relaxc.runtime.load(files.path(f".{kind}.so"), default_threads())
    feed = dict(np.load(files.path(".npz")))
    return lambda: executable.run(feed)


def row(name: str, times: dict[str, float]) -> str:
    """A line of the table."""
    listed = ", ".join(f"{kind} {seconds * 1e3:.2f} ms" for kind, seconds in times.items())
    return f"{name}: {listed}; tuned is {times['untuned'] / times['tuned']:.3f} times as fast"


if __name__ == "__main__":
    main()
