"""Latency of whole models on the CPU beside ONNX Runtime and OpenVINO.

Run it as ``python -m benchmarks.cpu`` in the root folder, on a quiet machine. Every peer has a process of its
own, they take turns, and a ratio above 1 says how much faster relaxc is than the fastest of the others.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from relaxc.runtime.processor import default_threads

from .models.bert import BertConfig, build_bert
from .models.catalogue import ARCHITECTURES, Feed, token_feed
from .models.published import load
from .onnxruntime_peer import OnnxRuntimeModel
from .turns import Setup, take_turns

MINILM = BertConfig(width=384, depth=6, heads=12)


@dataclass(frozen=True)
class Workload:
    """A model and what it is fed.

    Attributes:
        build: makes the model for a batch size.
        feed: makes the input for a batch size.
    """

    build: Callable[[int], onnx.ModelProto]
    feed: Callable[[int], Feed]


@dataclass(frozen=True)
class Result:
    """Median seconds of a call by peer, and what it took to compile."""

    model: str
    batch: int
    compile_seconds: float
    seconds: dict[str, float]

    @property
    def ratio(self) -> float:
        """How many times faster relaxc is than the fastest other."""
        return min(t for name, t in self.seconds.items() if name != "relaxc") / self.seconds["relaxc"]


def _published(name: str, value: str, shape: tuple[int, int, int]) -> Workload:
    def feed(batch: int) -> Feed:
        return {value: np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)}

    return Workload(lambda batch: load(name), feed)


def _architecture(name: str) -> Workload:
    return Workload(ARCHITECTURES[name].full, lambda batch: ARCHITECTURES[name].full_feed(batch, 0))


WORKLOADS: dict[str, Workload] = {
    **{name: _architecture(name) for name in ARCHITECTURES},
    "minilm_l6": Workload(
        lambda batch: build_bert(MINILM, batch, 128), lambda batch: token_feed(MINILM, batch, 128, 0)
    ),
    "nudenet_320n": _published("nudenet_320n", "images", (3, 320, 320)),
    "ppocr_v4_det": _published("ppocr_v4_det", "x", (3, 640, 640)),
    "ppocr_v4_rec": _published("ppocr_v4_rec", "x", (3, 48, 320)),
}


def main() -> None:
    """Measure, print, and write JSON and a plot where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default: 5)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--plot", type=Path, help="write a PNG to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.models) - set(WORKLOADS):
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")
    results = list(_results(arguments.models, arguments.batch, arguments.rounds))
    print(f"geometric mean of the ratios: {_geometric_mean(result.ratio for result in results):.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    if arguments.plot:
        _plot(results, arguments.plot)


def _results(models: Sequence[str], batches: Sequence[int], rounds: int) -> Iterable[Result]:
    threads = default_threads()
    print(f"fp32, {threads} threads, medians in ms; ratio: fastest other / relaxc")
    peers = f"{'relaxc':>10}{'ONNX Runtime':>14}{'OpenVINO':>10}"
    print(f"{'model':16}{'batch':>6}{peers}{'ratio':>7}{'compile':>10}")
    for name in models:
        for batch in batches:
            result = measure(name, batch, rounds, threads)
            times = [1e3 * result.seconds[peer] for peer in ("relaxc", "onnxruntime", "openvino")]
            row = f"{name:16}{batch:6}{times[0]:10.2f}{times[1]:14.2f}{times[2]:10.2f}{result.ratio:7.2f}"
            print(f"{row}{result.compile_seconds:8.1f} s", flush=True)
            yield result


def measure(name: str, batch: int, rounds: int, threads: int) -> Result:
    """One model at one batch size."""
    workload = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as folder:
        model, artifact, feed = (Path(folder) / file for file in ("model.onnx", "model.so", "feed.npz"))
        onnx.save(workload.build(batch), model)
        arrays = workload.feed(batch)
        np.savez(feed, **arrays)  # type: ignore[arg-type]
        compile_seconds = _compile(model, artifact, {k: v.shape for k, v in arrays.items()})
        peers: dict[str, tuple[Setup, tuple[Any, ...]]] = {
            "relaxc": (_relaxc, (artifact, feed, threads)),
            "onnxruntime": (_onnxruntime, (model, feed, threads)),
            "openvino": (_openvino, (model, feed, threads)),
        }
        times = take_turns(peers, rounds)
    return Result(name, batch, compile_seconds, {peer: statistics.median(t) for peer, t in times.items()})


def _compile(model: Path, artifact: Path, shapes: dict[str, tuple[int, ...]]) -> float:
    import relaxc

    compile = relaxc.compile  # imports the compiler
    started = time.perf_counter()
    compile(model, shapes=shapes).save(artifact)
    return time.perf_counter() - started


def _relaxc(artifact: Path, feed: Path, threads: int) -> Callable[[], object]:
    import relaxc.runtime

    executable, arrays = relaxc.runtime.load(artifact, num_threads=threads), dict(np.load(feed))
    return lambda: executable.run(arrays)


def _onnxruntime(model: Path, feed: Path, threads: int) -> Callable[[], object]:
    session, arrays = OnnxRuntimeModel(model, threads), dict(np.load(feed))
    return lambda: session.run(arrays)


def _openvino(model: Path, feed: Path, threads: int) -> Callable[[], object]:
    from .openvino_peer import OpenVinoModel

    compiled, arrays = OpenVinoModel(model, threads), dict(np.load(feed))
    return lambda: compiled.run(arrays)


def _geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def _plot(results: Sequence[Result], path: Path) -> None:
    """Bars of the time of each peer relative to relaxc's."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4))
    places = np.arange(len(results))
    for offset, peer in enumerate(("relaxc", "onnxruntime", "openvino")):
        relative = [result.seconds[peer] / result.seconds["relaxc"] for result in results]
        axes.bar(places + (offset - 1) * 0.27, relative, 0.27, label=peer)
    labels = [r.model if r.batch == 1 else f"{r.model} x{r.batch}" for r in results]
    axes.set_xticks(places, labels, rotation=30, ha="right")
    axes.set_ylabel("time relative to relaxc")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
