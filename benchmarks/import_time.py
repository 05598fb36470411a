"""How long importing takes: seconds of processor time for a thousand nodes.

Run it as ``python -m benchmarks.import_time [names ...]`` in the root folder. Besides the architectures of
``models`` and the files named as arguments it imports long chains: where time grows faster than the number
of nodes, they show it. Each is read from a file; what is measured is the thread that imports, while another
one hashes the file. Exits 1 if a model takes more than a second for a thousand nodes; one of fewer than a
hundred nodes has a tenth of a second.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper

from .models.catalogue import ARCHITECTURES

_PER_THOUSAND_NODES = 1.0
_LEAST_NODES = 100
_LONG = 5000


def main() -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_time", description=__doc__)
    parser.add_argument("names", nargs="*", help="of models, or paths of .onnx files (default: all models)")
    parser.add_argument("--repeat", type=int, default=5, help="the least of so many times counts")
    arguments = parser.parse_args()
    print(f"{'model':34}{'nodes':>8}{'MB':>8}{'seconds':>9}{'allowed':>9}")
    slow = False
    for name, model in _models(arguments.names or [*_BUILDERS]):
        count = _node_count(model.graph)
        seconds, size = _seconds(model, arguments.repeat)
        allowed = _PER_THOUSAND_NODES * max(count, _LEAST_NODES) / 1000
        slow = slow or seconds > allowed
        print(f"{name:34}{count:8}{size / 1e6:8.0f}{seconds:9.2f}{allowed:9.2f}", flush=True)
    return int(slow)


def _models(names: list[str]) -> Iterator[tuple[str, onnx.ModelProto]]:
    for name in names:
        yield (name, _BUILDERS[name]()) if name in _BUILDERS else (Path(name).stem, onnx.load(name))


def _seconds(model: onnx.ModelProto, repeat: int) -> tuple[float, int]:
    """The least of several times that importing takes, and the size of the file in bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        _import(path)  # what is imported on first use is not counted
        return min(_import(path) for _ in range(repeat)), path.stat().st_size


def _import(path: Path) -> float:
    from relaxc.frontends.onnx import import_onnx

    started = time.thread_time()
    import_onnx(path)
    return time.thread_time() - started


def _node_count(graph: onnx.GraphProto) -> int:
    inner = (a.g for node in graph.node for a in node.attribute if a.HasField("g"))
    return len(graph.node) + sum(map(_node_count, inner))


def chain_of_elementwise() -> onnx.ModelProto:
    """Additions and activations, one after another."""
    kinds = ("Add", "Relu", "Mul", "Sigmoid", "Sub")
    nodes = []
    for place in range(_LONG):
        kind = kinds[place % len(kinds)]
        operands = [f"v{place}", "c"] if kind in ("Add", "Mul", "Sub") else [f"v{place}"]
        nodes.append(helper.make_node(kind, operands, [f"v{place + 1}"]))
    return _model(nodes, {"c": np.full(8, 0.5, np.float32)})


def chain_of_convolutions() -> onnx.ModelProto:
    """Convolutions with their weights, of any number of images."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.standard_normal((8, 8, 1, 1)).astype(np.float32) for i in range(_LONG)}
    nodes = [helper.make_node("Conv", [f"v{i}", f"w{i}"], [f"v{i + 1}"]) for i in range(_LONG)]
    return _model(nodes, weights, ["n", 8, 16, 16])


def arithmetic_on_shapes() -> onnx.ModelProto:
    """What exporters write around each reshape: extents taken from a shape, multiplied, put together."""
    nodes = []
    for place in range(_LONG // 10):
        v, p = f"v{place}", f"p{place}_"
        nodes += [
            helper.make_node("Shape", [v], [p + "shape"]),
            helper.make_node("Gather", [p + "shape", "zero"], [p + "batch"]),
            helper.make_node("Gather", [p + "shape", "one"], [p + "width"]),
            helper.make_node("Mul", [p + "batch", p + "width"], [p + "total"]),
            helper.make_node("Add", [p + "total", "one"], [p + "more"]),
            helper.make_node("Sub", [p + "more", "one"], [p + "less"]),
            helper.make_node("Reshape", [v, "flat"], [p + "line"]),
            helper.make_node("Concat", [p + "batch", p + "width"], [p + "target"], axis=0),
            helper.make_node("Reshape", [p + "line", p + "target"], [p + "back"]),
            helper.make_node("Relu", [p + "back"], [f"v{place + 1}"]),
        ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "flat": np.array([-1])}
    return _model(nodes, constants, ["n", "w"], _LONG // 10)


def _model(
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    shape: list[int | str] | None = None,
    last: int = _LONG,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("v0", TensorProto.FLOAT, shape or ["n", 8])],
        [onnx.ValueInfoProto(name=f"v{last}")],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


_BUILDERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "chain of elementwise operators": chain_of_elementwise,
    "chain of convolutions": chain_of_convolutions,
    "arithmetic on shapes": arithmetic_on_shapes,
    **{name: partial(architecture.full, 1) for name, architecture in ARCHITECTURES.items()},
}


if __name__ == "__main__":
    sys.exit(main())
