"""Latency of whole models on the CPU beside ONNX Runtime, OpenVINO and stock TVM.

Run it as ``python -m benchmarks.cpu`` in the root folder, on a quiet machine. Every peer has a process of its
own, they take turns, and a ratio above 1 says how much faster relaxc is than the fastest of the others.
``--precision bf16`` and ``fp16`` compare relaxc and OpenVINO, both in that type.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from .turns import PeerRecord, Setup, take_turns

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
    """What one model at one batch size came to.

    Attributes:
        model, batch, precision: what was measured.
        compile_seconds: of relaxc.
        gflop: the model's convolutions and products, two operations for each multiply-add; None if a shape
            is unknown.
        milliseconds: median of the calls, by peer; a peer that failed is missing.
        peak_megabytes: memory that loading and running took at most, by peer.
        failures: why a peer is missing.
    """

    model: str
    batch: int
    precision: str
    compile_seconds: float
    gflop: float | None
    milliseconds: dict[str, float]
    peak_megabytes: dict[str, float]
    failures: dict[str, str]

    @property
    def ratio(self) -> float:
        """How many times faster relaxc is than the fastest other."""
        return (
            min(t for name, t in self.milliseconds.items() if name != "relaxc") / self.milliseconds["relaxc"]
        )

    def share(self, ceiling_gflops: float) -> float | None:
        """Of what the machine could compute in relaxc's time."""
        return (
            None if self.gflop is None else self.gflop / (self.milliseconds["relaxc"] / 1e3 * ceiling_gflops)
        )


@dataclass(frozen=True)
class Plan:
    """How to measure: turns of each peer, threads of a call, what relaxc and OpenVINO compute in, relaxc's
    target, and whether stock TVM takes part."""

    rounds: int
    threads: int
    precision: str
    target: str
    stock_tvm: bool


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


PEERS = ("relaxc", "onnxruntime", "openvino", "stock_tvm")
_OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


def main() -> None:
    """Measure, print, and write JSON and a plot where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (default: 5)")
    parser.add_argument("--precision", choices=list(_OPENVINO_PRECISIONS), default="fp32")
    parser.add_argument("--target", default="native", help="relaxc's target (default: native)")
    parser.add_argument("--stock-tvm", action="store_true", help="untuned TVM takes part; that takes minutes")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--plot", type=Path, help="write a PNG to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.models) - set(WORKLOADS):
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")
    plan = Plan(
        arguments.rounds, default_threads(), arguments.precision, arguments.target, arguments.stock_tvm
    )
    results = list(_results(arguments.models, arguments.batch, plan))
    print(f"geometric mean of the ratios: {geometric_mean(result.ratio for result in results):.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    if arguments.plot:
        from .cpu_plot import plot

        plot(results, arguments.plot)


def _results(models: Sequence[str], batches: Sequence[int], plan: Plan) -> Iterator[Result]:
    ceiling = _ceiling(plan.threads)
    print(
        f"{plan.precision}, target {plan.target}, {plan.threads} threads, fp32 ceiling {ceiling:.0f} GFLOP/s;"
        " medians in ms, peak memory in MB; ratio: fastest other / relaxc"
    )
    print(f"{'model':16}{'batch':>6}", *(f"{peer:>11}" for peer in PEERS), end=" ", sep="")
    print(f"{'ratio':>7}{'ceiling':>9}{'compile':>10}  memory: relaxc, others")
    for name in models:
        for batch in batches:
            result = measure(name, batch, plan)
            print(_row(result, ceiling), flush=True)
            yield result


def _row(result: Result, ceiling: float) -> str:
    times = (result.milliseconds.get(peer) for peer in PEERS)
    cells = "".join(f"{'-':>11}" if time is None else f"{time:11.2f}" for time in times)
    share = result.share(ceiling)
    return (
        f"{result.model:16}{result.batch:6}{cells} {result.ratio:7.2f}"
        f"{'-' if share is None else f'{share:.0%}':>9}{result.compile_seconds:8.1f} s  "
        + ", ".join(f"{result.peak_megabytes[peer]:.0f}" for peer in PEERS if peer in result.peak_megabytes)
        + "".join(f"; {peer}: {failure}" for peer, failure in result.failures.items())
    )


def _ceiling(threads: int) -> float:
    from relaxc.targets.cpu.ceilings import measure_ceilings

    return measure_ceilings(threads).gflops


def measure(name: str, batch: int, plan: Plan) -> Result:
    """One model at one batch size."""
    workload = WORKLOADS[name]
    with tempfile.TemporaryDirectory() as folder:
        model, artifact, feed = (Path(folder) / file for file in ("model.onnx", "model.so", "feed.npz"))
        onnx.save(workload.build(batch), model)
        arrays = workload.feed(batch)
        np.savez(feed, **arrays)  # type: ignore[arg-type]
        shapes = {k: v.shape for k, v in arrays.items()}
        compile_seconds = _compile(model, artifact, shapes, plan)
        records = take_turns(_peers(model, artifact, feed, shapes, plan), plan.rounds)
        gflop = _gflop(model, shapes)
    return Result(name, batch, plan.precision, compile_seconds, gflop, *_medians(records))


def _medians(records: dict[str, PeerRecord]) -> tuple[dict[str, float], dict[str, float], dict[str, str]]:
    ran = {peer: record for peer, record in records.items() if record.failure is None}
    return (
        {peer: 1e3 * statistics.median(record.seconds) for peer, record in ran.items()},
        {peer: record.peak_bytes / 2**20 for peer, record in ran.items()},
        {peer: record.failure for peer, record in records.items() if record.failure is not None},
    )


def _peers(
    model: Path, artifact: Path, feed: Path, shapes: dict[str, tuple[int, ...]], plan: Plan
) -> dict[str, tuple[Setup, tuple[Any, ...]]]:
    peers: dict[str, tuple[Setup, tuple[Any, ...]]] = {
        "relaxc": (relaxc_call, (artifact, feed, plan.threads))
    }
    if plan.precision == "fp32":
        peers["onnxruntime"] = (_onnxruntime, (model, feed, plan.threads))
    peers["openvino"] = (_openvino, (model, feed, plan.threads, _OPENVINO_PRECISIONS[plan.precision]))
    if plan.stock_tvm:
        peers["stock_tvm"] = (_stock_tvm, (model, feed, shapes))
    return peers


def _gflop(model: Path, shapes: dict[str, tuple[int, ...]]) -> float | None:
    from relaxc.compiler.reports.onnx_summary import summarize_onnx

    summary = summarize_onnx(model, shapes)
    operations = summary.flops.value
    return None if summary.uncounted or operations is None else operations / 1e9


def _compile(model: Path, artifact: Path, shapes: dict[str, tuple[int, ...]], plan: Plan) -> float:
    import relaxc

    compile = relaxc.compile  # imports the compiler
    started = time.perf_counter()
    compile(model, plan.target, shapes=shapes, precision=plan.precision).save(artifact)
    return time.perf_counter() - started


def relaxc_call(artifact: Path, feed: Path, threads: int) -> Callable[[], object]:
    """One run of an artifact, by its file and that of its input."""
    import relaxc.runtime

    executable, arrays = relaxc.runtime.load(artifact, num_threads=threads), dict(np.load(feed))
    return lambda: executable.run(arrays)


def _onnxruntime(model: Path, feed: Path, threads: int) -> Callable[[], object]:
    session, arrays = OnnxRuntimeModel(model, threads), dict(np.load(feed))
    return lambda: session.run(arrays)


def _openvino(model: Path, feed: Path, threads: int, precision: str = "f32") -> Callable[[], object]:
    from .openvino_peer import OpenVinoModel

    compiled, arrays = OpenVinoModel(model, threads, precision), dict(np.load(feed))
    return lambda: compiled.run(arrays)


def _stock_tvm(model: Path, feed: Path, shapes: dict[str, tuple[int, ...]]) -> Callable[[], object]:
    from .stock_tvm_peer import StockTvmModel

    compiled, arrays = StockTvmModel(model, shapes), dict(np.load(feed))
    return lambda: compiled.run(arrays)


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive ``values``, one or more."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


if __name__ == "__main__":
    main()
