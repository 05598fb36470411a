"""Nodes and edges that should not be as they are."""

from __future__ import annotations

import onnx

from .mutation_table import NAMES, Generator, breaks, some, some_node


@breaks
def cycle(model: onnx.ModelProto, generator: Generator) -> bool:
    """A node reads what a later node makes of its own result."""
    nodes = [node for node in model.graph.node if node.input and node.output]
    node = some(nodes, generator)
    if node is None:
        return False
    later = nodes[nodes.index(node) :]
    node.input[0] = some(later, generator).output[0]
    return True


@breaks
def duplicate_result(model: onnx.ModelProto, generator: Generator) -> bool:
    first, second = some_node(model, generator), some_node(model, generator)
    if first is None or second is None or not first.output or not second.output:
        return False
    second.output[0] = first.output[0]
    return True


@breaks
def duplicate_initializer(model: onnx.ModelProto, generator: Generator) -> bool:
    first, second = (some(model.graph.initializer, generator) for _ in range(2))
    if first is None:
        return False
    second.name = first.name
    return True


@breaks
def duplicate_input(model: onnx.ModelProto, generator: Generator) -> bool:
    value = some(model.graph.input, generator)
    if value is not None:
        model.graph.input.add().CopyFrom(value)
    return value is not None


@breaks
def duplicate_node(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some(model.graph.node, generator)
    if node is not None:
        model.graph.node.add().CopyFrom(node)
    return node is not None


@breaks
def remove_operand(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is None or not node.input:
        return False
    place = int(generator.integers(len(node.input)))
    if generator.integers(2):
        del node.input[place:]
    else:
        node.input[place] = ""
    return True


@breaks
def add_operand(model: onnx.ModelProto, generator: Generator) -> bool:
    node, other = some_node(model, generator), some_node(model, generator)
    if node is None or other is None:
        return False
    node.input.extend([*other.input, *other.input])
    return True


@breaks
def swap_operands(model: onnx.ModelProto, generator: Generator) -> bool:
    nodes = [node for node in model.graph.node if node.input]
    first, second = some(nodes, generator), some(nodes, generator)
    if first is None:
        return False
    i, j = int(generator.integers(len(first.input))), int(generator.integers(len(second.input)))
    first.input[i], second.input[j] = str(second.input[j]), str(first.input[i])
    return True


@breaks
def remove_results(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is not None:
        del node.output[int(generator.integers(2)) :]
    return node is not None


@breaks
def add_results(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is not None:
        node.output.extend(f"surplus{place}" for place in range(3))
    return node is not None


@breaks
def remove_node(model: onnx.ModelProto, generator: Generator) -> bool:
    if model.graph.node:
        del model.graph.node[int(generator.integers(len(model.graph.node)))]
    return True


@breaks
def remove_all_nodes(model: onnx.ModelProto, _generator: Generator) -> bool:
    del model.graph.node[:]
    return True


@breaks
def remove_initializer(model: onnx.ModelProto, generator: Generator) -> bool:
    tensors = model.graph.initializer
    if tensors:
        del tensors[int(generator.integers(len(tensors)))]
    return bool(tensors)


@breaks
def remove_input(model: onnx.ModelProto, generator: Generator) -> bool:
    inputs = model.graph.input
    if not inputs:
        return False
    del inputs[int(generator.integers(len(inputs)))]
    return True


@breaks
def remove_outputs(model: onnx.ModelProto, _generator: Generator) -> bool:
    del model.graph.output[:]
    return True


@breaks
def rename_output(model: onnx.ModelProto, generator: Generator) -> bool:
    model.graph.output[0].name = some(NAMES, generator)
    return True


@breaks
def rename_result(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is None or not node.output:
        return False
    node.output[0] = some(NAMES, generator)
    return True


@breaks
def rename_input(model: onnx.ModelProto, generator: Generator) -> bool:
    value, name = some(model.graph.input, generator), some(NAMES, generator)
    if value is None:
        return False
    for node in model.graph.node:
        node.input[:] = [name if read == value.name else read for read in node.input]
    value.name = name
    return True


@breaks
def other_operator(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is None:
        return False
    node.op_type = some([schema.name for schema in onnx.defs.get_all_schemas()], generator)
    return True


@breaks
def unknown_operator(model: onnx.ModelProto, generator: Generator) -> bool:
    node = some_node(model, generator)
    if node is None:
        return False
    node.op_type, node.domain = some(NAMES, generator), some(("", "com.example", "ai.onnx.ml"), generator)
    return True
