"""Whole models that are built as none should be."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from .mutation_table import Generator, breaks, extreme, some, untyped

_NESTED = 30  # deeper ones, protocol buffers refuse themselves


@breaks
def other_opset(model: onnx.ModelProto, generator: Generator) -> bool:
    del model.opset_import[:]
    for _ in range(int(generator.integers(3))):
        version = int(some((-1, 0, 1, 3, 6, 7, 9, 13, 18, 26, 9999, 2**62), generator))
        domain = str(some(("", "ai.onnx", "ai.onnx.ml", "com.example"), generator))
        model.opset_import.append(helper.make_opsetid(domain, version))
    return True


@breaks
def other_order(model: onnx.ModelProto, generator: Generator) -> bool:
    """Nodes in an order of their own, which is wrong but harmless."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes[int(place)] for place in generator.permutation(len(nodes)))
    return True


@breaks
def deep_nesting(model: onnx.ModelProto, generator: Generator) -> bool:
    """If inside of If, the innermost of which reads what there is not."""
    result = "inner" if generator.integers(2) else model.graph.output[0].name
    graph = helper.make_graph(
        [helper.make_node("Identity", [result], ["deep"])], "inner", [], [untyped("deep")]
    )
    for _ in range(_NESTED):
        node = helper.make_node("If", ["condition"], ["deep"], then_branch=graph, else_branch=_empty("deep"))
        graph = helper.make_graph([node], "outer", [], [untyped("deep")])
    model.graph.initializer.append(helper.make_tensor("condition", TensorProto.BOOL, [], [True]))
    model.graph.node.append(graph.node[0])
    model.graph.output.append(untyped("deep"))
    return True


@breaks
def long_chain(model: onnx.ModelProto, generator: Generator) -> bool:
    """Thousands of nodes in a row."""
    last = model.graph.output[0].name
    count = int(some((100, 1000, 5000), generator))
    for place in range(count):
        model.graph.node.append(helper.make_node("Identity", [last], [f"chain{place}"]))
        last = f"chain{place}"
    model.graph.output.append(untyped(last))
    return True


@breaks
def recursive_function(model: onnx.ModelProto, generator: Generator) -> bool:
    """A local function that calls itself, or that another function of the file calls back."""
    names = ["First", "Second"][: int(generator.integers(1, 3))]
    for name, called in zip(names, names[1:] + names[:1], strict=True):
        body = [helper.make_node(called, ["x"], ["y"], domain="local")]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        model.functions.append(helper.make_function("local", name, ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node.append(
        helper.make_node("First", [model.graph.output[0].name], ["called"], domain="local")
    )
    model.graph.output.append(untyped("called"))
    return True


@breaks
def bad_sparse_weight(model: onnx.ModelProto, generator: Generator) -> bool:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor("", TensorProto.INT64, [2], [extreme(generator), extreme(generator)])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [extreme(generator)]))
    model.graph.node.append(helper.make_node("Identity", ["sparse"], ["dense"]))
    model.graph.output.append(untyped("dense"))
    return True


def _empty(result: str) -> onnx.GraphProto:
    constant = helper.make_node("Constant", [], [result], value_float=1.0)
    return helper.make_graph([constant], "empty", [], [untyped(result)])
