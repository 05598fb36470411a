"""How far a lower precision moves the results of whole models from those of fp32.

Run it as ``python -m benchmarks.precision_agreement`` in the root folder. Both precisions are relaxc's, on
the same inputs, which are random; so are the weights of most models, and random weights decide by narrower
margins than trained ones. Speed plays no part, so the machine need not be quiet.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

import relaxc

from .cpu import WORKLOADS

Array: TypeAlias = NDArray[np.float64]
PRECISIONS = ("bf16", "fp16")
INK = 0.3
"""The probability from which a pixel belongs to a text, as PP-OCR's detector is used."""


@dataclass(frozen=True)
class Agreement:
    """What a precision does to a model's first output.

    Attributes:
        model, precision, batch: what was compared.
        cosine: of the angle between both results as vectors.
        worst: the largest difference, relative to the largest magnitude of the fp32 result.
        measure: which decisions were counted.
        agreed: the share of decisions that stay the same.
    """

    model: str
    precision: str
    batch: int
    cosine: float
    worst: float
    measure: str
    agreed: float


def _same_class(expected: Array, actual: Array) -> float:
    return float(np.mean(expected.argmax(-1) == actual.argmax(-1)))


def _same_box_class(expected: Array, actual: Array) -> float:
    """[batch, 4 corners and the classes, boxes]."""
    return float(np.mean(expected[:, 4:].argmax(1) == actual[:, 4:].argmax(1)))


def _same_ink(expected: Array, actual: Array) -> float:
    return float(np.mean((expected > INK) == (actual > INK)))


def _nearest_token(expected: Array, actual: Array) -> float:
    """Whether the nearest fp32 vector of a token's is its own: [batch, tokens, features]."""
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (actual, expected))
    nearest = (a @ b.swapaxes(-1, -2)).argmax(-1)
    return float(np.mean(nearest == np.arange(nearest.shape[-1])))


Decision: TypeAlias = tuple[str, Callable[[Array, Array], float]]
_CLASS: Decision = ("top-1", _same_class)
_TOKEN: Decision = ("nearest token", _nearest_token)
_DECISIONS: dict[str, Decision] = {
    "bert_base": _TOKEN,
    "minilm_l6": _TOKEN,
    "nudenet_320n": ("class of each box", _same_box_class),
    "ppocr_v4_det": ("text or not, each pixel", _same_ink),
    "ppocr_v4_rec": ("character at each step", _same_class),
}


def compare(model: str, precision: str, batch: int, expected: Array, actual: Array) -> Agreement:
    """What ``precision`` did to ``expected``, the first output of ``model`` in fp32."""
    measure, decide = _DECISIONS.get(model, _CLASS)
    lengths = np.linalg.norm(expected) * np.linalg.norm(actual)
    worst = np.abs(actual - expected).max() / np.abs(expected).max()
    return Agreement(
        model,
        precision,
        batch,
        float(np.sum(expected * actual) / lengths),
        float(worst),
        measure,
        decide(expected, actual),
    )


def agreements(model: str, precisions: Sequence[str], batch: int, target: str) -> Iterator[Agreement]:
    """One of the benchmark's models in each precision."""
    workload = WORKLOADS[model]
    feed = workload.feed(batch)
    shapes = {name: array.shape for name, array in feed.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(workload.build(batch), path)

        def first_output(precision: str) -> Array:
            results: dict[str, Any] = relaxc.compile(path, target, shapes, precision=precision).run(feed)
            return np.asarray(next(iter(results.values())), np.float64)

        expected = first_output("fp32")
        for precision in precisions:
            yield compare(model, precision, batch, expected, first_output(precision))


def main() -> None:
    """Compare, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch", type=int, default=4, help="inputs of each model (default: 4)")
    parser.add_argument("--target", default="native", help="relaxc's target (default: native)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args()
    if unknown := set(arguments.models) - set(WORKLOADS):
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")
    print(f"{'model':16}{'precision':>10}{'cosine':>10}{'worst':>8}{'agreed':>9}  decision")
    found = []
    for model in arguments.models:
        for result in agreements(model, arguments.precision, arguments.batch, arguments.target):
            found.append(result)
            row = f"{result.model:16}{result.precision:>10}{result.cosine:10.6f}{result.worst:8.3f}"
            print(f"{row}{result.agreed:9.2%}  {result.measure}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
