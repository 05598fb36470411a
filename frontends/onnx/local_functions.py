"""The functions that a model file defines, put in the place of their calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
import onnx.inliner
import onnx.shape_inference
import onnx.version_converter

from ...runtime.errors import InvalidModelError

# Functions that call others twice, which call others twice, and so on, make a small file a huge graph.
_MOST_NODES = 10_000_000

_INLINER_ERRORS = (
    RuntimeError,
    ValueError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)

_Key = tuple[str, str, str]


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own.

    Raises:
        InvalidModelError: a function calls itself, or is not called as it is defined, or the graph would have
            more nodes than any machine could compile.
    """
    if not proto.functions:
        return proto
    _check_calls(proto)
    _state_defaults(proto)
    try:
        # Functions may be written for other versions of the operators than the graph.
        return onnx.inliner.inline_local_functions(proto, convert_version=True)
    except _INLINER_ERRORS as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidModelError(f"the model's local functions cannot be inlined: {reason}") from None


def _check_calls(proto: onnx.ModelProto) -> None:
    """onnx's inliner trusts that it comes to an end."""
    functions = {_key(function.domain, function.name, function): function for function in proto.functions}
    sizes: dict[_Key, int] = {}
    open_calls: set[_Key] = set()

    def size(key: _Key) -> int:
        if key in open_calls:
            raise InvalidModelError(f"the local function '{key[1]}' calls itself, directly or through others")
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = total(functions[key].node)
            open_calls.remove(key)
        return sizes[key]

    def total(nodes: Iterable[onnx.NodeProto]) -> int:
        keys = (_key(node.domain, node.op_type, node) for node in _all_nodes(nodes))
        return sum(size(key) if key in functions else 1 for key in keys)

    try:
        count = total(proto.graph.node)
    except RecursionError:
        raise InvalidModelError("the model's local functions are nested too deeply") from None
    if count > _MOST_NODES:
        raise InvalidModelError(f"the model has {count} nodes once its local functions are inlined")


def _state_defaults(proto: onnx.ModelProto) -> None:
    """Calls say what their functions have defaults for: onnx's inliner forgets these."""
    defaults = {_key(f.domain, f.name, f): f.attribute_proto for f in proto.functions if f.attribute_proto}
    for nodes in [proto.graph.node, *(function.node for function in proto.functions)]:
        for node in _all_nodes(nodes):
            given = {attribute.name for attribute in node.attribute}
            missing = defaults.get(_key(node.domain, node.op_type, node), ())
            node.attribute.extend(default for default in missing if default.name not in given)


def _key(domain: str, name: str, proto: onnx.NodeProto | onnx.FunctionProto) -> _Key:
    return "" if domain == "ai.onnx" else domain, name, proto.overload


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)
