"""Attributes that contradict the operator."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, helper

from .mutation_table import Generator, all_nodes, breaks, extreme, some, some_node


@breaks
def remove_attribute(model: onnx.ModelProto, generator: Generator) -> bool:
    attributes = some([node.attribute for node in all_nodes(model.graph) if node.attribute], generator)
    if attributes is None:
        return False
    del attributes[int(generator.integers(len(attributes)))]
    return True


@breaks
def extreme_attribute(model: onnx.ModelProto, generator: Generator) -> bool:
    """Numbers become such as no node can mean."""
    attribute = _attribute(model, generator, AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT)
    if attribute is None:
        return False
    attribute.i, attribute.f = extreme(generator), float(some((np.nan, np.inf, -1e38, 0.0), generator))
    if attribute.ints:
        attribute.ints[int(generator.integers(len(attribute.ints)))] = extreme(generator)
    return True


@breaks
def resized_attribute(model: onnx.ModelProto, generator: Generator) -> bool:
    """Lists lose or gain entries."""
    attribute = _attribute(model, generator, AttributeProto.INTS)
    if attribute is None:
        return False
    attribute.ints[:] = list(attribute.ints) * int(generator.integers(3)) + [1] * int(generator.integers(2))
    return True


@breaks
def retyped_attribute(model: onnx.ModelProto, generator: Generator) -> bool:
    attribute = _attribute(model, generator)
    if attribute is None:
        return False
    name = attribute.name
    value = some((1, 1.5, "text", [1, 2], [0.5], ["a"], helper.make_tensor("t", 1, [1], [1.0])), generator)
    attribute.CopyFrom(helper.make_attribute(name, value))
    return True


@breaks
def other_text(model: onnx.ModelProto, generator: Generator) -> bool:
    attribute = _attribute(model, generator, AttributeProto.STRING)
    if attribute is None:
        return False
    attribute.s = some((b"", b"\xff\xfe", b"SAME_UPPER", b"nearest", b"i,j->k", b"..."), generator)
    return True


@breaks
def surplus_attribute(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is None:
        return False
    name = some(("axis", "axes", "to", "value", "body", "kernel_shape", "perm", "alpha"), generator)
    node.attribute.append(helper.make_attribute(name, some((3, [9, 9], 0.5, "text"), generator)))
    return True


def _attribute(model: onnx.ModelProto, generator: Generator, *types: int) -> AttributeProto | None:
    every = [attribute for node in all_nodes(model.graph) for attribute in node.attribute]
    found: AttributeProto | None = some([a for a in every if not types or a.type in types], generator)
    return found


@breaks
def bad_subgraph(model: onnx.ModelProto, generator: Generator) -> bool:
    """Bodies of nodes without results, or with other parameters than the node passes."""
    attribute = _attribute(model, generator, AttributeProto.GRAPH)
    if attribute is None:
        return False
    graph = attribute.g
    broken = some((graph.output, graph.input, graph.node), generator)
    if generator.integers(2) and len(broken):
        broken.add().CopyFrom(broken[0])
    else:
        del broken[:]
    return True
