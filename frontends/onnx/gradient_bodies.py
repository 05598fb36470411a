"""What the operator Gradient differentiates, made a graph of its own.

A file names two values and means all nodes between them; here they become the node's attribute ``body``, as
with any other graph in a node.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ...runtime.errors import InvalidModelError

DOMAIN = "ai.onnx.preview.training"


def with_bodies(graph: onnx.GraphProto) -> None:
    """Gives each Gradient of a graph the nodes from its inputs to ``y``, as the attribute ``body``."""
    for node in graph.node:
        if (node.domain, node.op_type) == (DOMAIN, "Gradient"):
            texts = {a.name: a for a in node.attribute}
            if "xs" not in texts or "y" not in texts:
                raise InvalidModelError("Gradient needs the attributes xs and y")
            sources = [s.decode(errors="replace") for s in [*texts["xs"].strings, *_listed(texts, "zs")]]
            body = _between(graph.node, sources, texts["y"].s.decode(errors="replace"))
            node.attribute.append(onnx.helper.make_attribute("body", body))


def _listed(attributes: dict[str, onnx.AttributeProto], name: str) -> Iterable[bytes]:
    return attributes[name].strings if name in attributes else ()


def _between(nodes: Iterable[onnx.NodeProto], sources: list[str], target: str) -> onnx.GraphProto:
    """The graph from ``sources`` to ``target``; nothing before the sources belongs to it."""
    wanted, chosen = {target} - set(sources), []
    for node in reversed(list(nodes)):
        if wanted & set(node.output):
            chosen.append(node)
            wanted |= set(node.input) - set(sources)
    inputs = [onnx.ValueInfoProto(name=name) for name in sources]
    return onnx.helper.make_graph(chosen[::-1], "body", inputs, [onnx.ValueInfoProto(name=target)])
