"""The table of mutations that keep a file well-formed, and what they choose from.

Each changes a model in place and says whether there was something to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx

Generator = np.random.Generator
GraphMutation = Callable[[onnx.ModelProto, Generator], bool]

GRAPH_MUTATIONS: dict[str, GraphMutation] = {}

TYPES = (*range(28), 99, 2**20)
NAMES = ("", " ", "a\nb", "ü", "x" * 100_000, "%s", "../x", "0")
_EXTREMES = (-(2**63), -(2**31), -1000, -1, 0, 1, 2, 7, 1000, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1)


def breaks(mutation: GraphMutation) -> GraphMutation:
    """Enters the decorated function into the table, by its name."""
    GRAPH_MUTATIONS[mutation.__name__] = mutation
    return mutation


def some(items: Sequence[Any], generator: Generator) -> Any:
    """One of them, or None of none."""
    return items[int(generator.integers(len(items)))] if len(items) else None


def extreme(generator: Generator) -> int:
    """A number at an edge of its type, or a small one."""
    return int(some(_EXTREMES, generator))


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs in them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def some_node(model: onnx.ModelProto, generator: Generator) -> onnx.NodeProto | None:
    """Any node, None of a model without nodes."""
    node: onnx.NodeProto | None = some(list(all_nodes(model.graph)), generator)
    return node


def untyped(name: str) -> onnx.ValueInfoProto:
    """The declaration of a value of which only the name is said."""
    return onnx.helper.make_empty_tensor_value_info(name)
