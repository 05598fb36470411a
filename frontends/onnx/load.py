"""From a path or a ModelProto to a model that the importer can trust."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import onnx
import onnx.checker
import onnx.shape_inference
import onnx.version_converter
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from ...runtime.errors import InvalidModelError
from .constant_tensors import is_raw
from .gradient_bodies import with_bodies
from .local_functions import inlined
from .sparse_tensors import write_out

MIN_OPSET = 7

_CONVERTER_ERRORS = (
    RuntimeError,
    ValueError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    onnx.version_converter.ConvertError,
)


@dataclass(frozen=True)
class LoadedModel:
    """A model whose structure is sound.

    Attributes:
        proto: nodes are in topological order, tensors hold their data, local functions are inlined.
        opsets: domain -> version; the standard domain is "".
        digest: the hash of the source, once it is computed.
    """

    proto: onnx.ModelProto
    opsets: dict[str, int]
    digest: Future[str]

    @property
    def source_hash(self) -> str:
        """SHA-256 of the file, or of the serialized ModelProto, in hexadecimal."""
        return self.digest.result()


def load_model(source: str | os.PathLike[str] | onnx.ModelProto) -> LoadedModel:
    """Reads and checks a model.

    Raises:
        InvalidModelError: what is wrong with the file or with the graph in it, in one line.
    """
    if isinstance(source, onnx.ModelProto):
        data, folder = source.SerializeToString(deterministic=True), Path.cwd()
        proto = onnx.ModelProto.FromString(data)  # copies less than CopyFrom
    else:
        path = Path(os.fspath(source))
        data, folder = _read(path), path.resolve().parent
        proto = _parse(path, data)
    digest = _hash_of(data)
    if not proto.HasField("graph") or not proto.graph.output:
        raise InvalidModelError("the model has no graph with outputs; is it an ONNX file?")
    _load_external_data(proto, folder)
    _name_standard_domain(proto)
    proto = inlined(proto)
    write_out(proto.graph)
    _check_tensors(proto.graph)
    _check_graph(proto.graph, frozenset())
    proto = _modernized(proto)
    opsets = _opsets(proto)
    with_bodies(proto.graph)
    return LoadedModel(proto, opsets, digest)


def _hash_of(data: bytes) -> Future[str]:
    """SHA-256, computed while the model is imported: it takes as long as all the rest of a large one."""
    digest: Future[str] = Future()
    Thread(target=lambda: digest.set_result(hashlib.sha256(data).hexdigest()), daemon=True).start()
    return digest


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise InvalidModelError(f"{path}: is a folder; pass the .onnx file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InvalidModelError(f"{path}: no such file") from None
    except OSError as error:
        raise InvalidModelError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise InvalidModelError(f"{path}: the file is empty")
    return data


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError):
        raise InvalidModelError(f"{path}: not an ONNX model, or truncated; export or copy it again") from None
    return proto


def opset_versions(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Domain -> version; the standard domain is ""."""
    return {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in imports}


def _name_standard_domain(proto: onnx.ModelProto) -> None:
    """The standard domain may be called "ai.onnx", too; onnx's own tools then miss its version."""
    for entry in [*proto.opset_import, *(e for f in proto.functions for e in f.opset_import)]:
        if entry.domain == "ai.onnx":
            entry.domain = ""
    for nodes in [proto.graph.node, *(function.node for function in proto.functions)]:
        _name_standard_domain_of(nodes)


def _name_standard_domain_of(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.domain == "ai.onnx":
            node.domain = ""
        for subgraph in _subgraphs(node):
            _name_standard_domain_of(subgraph.node)


def _modernized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Models of before opset 7 had other broadcasting rules; onnx rewrites them where it can."""
    version = opset_versions(proto.opset_import).get("", MIN_OPSET)
    if not 0 < version < MIN_OPSET:
        return proto
    try:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(proto, MIN_OPSET)
    except _CONVERTER_ERRORS:
        return proto  # which is then refused for its opset
    _state_slope_axes(converted.graph)
    return converted


def _state_slope_axes(graph: onnx.GraphProto) -> None:
    """Before opset 7 the slopes of PRelu went with axis 1: now the attribute ``axis`` says so."""
    for node in graph.node:
        if node.op_type == "PRelu":
            node.attribute.append(onnx.helper.make_attribute("axis", 1))
        for subgraph in _subgraphs(node):
            _state_slope_axes(subgraph)


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    opsets = opset_versions(proto.opset_import)
    newest = onnx.defs.onnx_opset_version()
    version = opsets.setdefault("", 1 if not opsets else newest)
    if not MIN_OPSET <= version <= newest:
        raise InvalidModelError(
            f"opset {version} is not supported (supported: {MIN_OPSET} to {newest}); convert the model "
            "with onnx.version_converter"
        )
    return opsets


def _load_external_data(proto: onnx.ModelProto, folder: Path) -> None:
    root = folder.resolve()
    for tensor in _tensors(proto.graph):
        if uses_external_data(tensor):
            _check_external_path(tensor, root)
    try:
        load_external_data_for_model(proto, str(root))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidModelError(f"external data of the model cannot be loaded: {reason}") from None


def _check_external_path(tensor: onnx.TensorProto, root: Path) -> None:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    where = f"external data of tensor '{tensor.name}'"
    if not location or "\0" in location:
        raise InvalidModelError(f"{where}: no usable location is given")
    resolved = (root / location).resolve()
    if Path(location).is_absolute() or not resolved.is_relative_to(root):
        raise InvalidModelError(f"{where}: '{location}' lies outside the model's folder")
    if not resolved.is_file():
        raise InvalidModelError(f"{where}: no such file: {resolved}; copy it beside the model")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for subgraph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(subgraph)


def _check_tensors(graph: onnx.GraphProto) -> None:
    """Data must be as long as the shapes say; done here because the readers of tensors trust them."""
    for tensor in _tensors(graph):
        if is_raw(tensor) and _has_nothing_else(tensor):
            continue  # constant_tensor looks at its length; the checker would copy what it is to check
        try:
            onnx.checker.check_tensor(tensor)
        except onnx.checker.ValidationError as error:
            reason = str(error).strip().splitlines()[0]
            raise InvalidModelError(f"tensor '{tensor.name}' is broken: {reason}") from None


def _has_nothing_else(tensor: onnx.TensorProto) -> bool:
    """Whether a raw tensor is not at the same time one of another form."""
    others = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data)
    return not (any(map(len, others)) or tensor.uint64_data or tensor.external_data or tensor.string_data)


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    """Every name is produced once and before its use; sorts the nodes where the file does not."""
    defined = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    produced = [name for node in graph.node for name in node.output if name]
    seen = set(defined)
    for name in produced:
        if name in seen:
            raise InvalidModelError(f"the value '{name}' is produced twice")
        seen.add(name)
    visible = outer | seen
    for node in graph.node:
        for name in node.input:
            if name and name not in visible:
                raise InvalidModelError(
                    f"the input '{name}' of {node.op_type} '{node.name}' is never produced"
                )
    for value in graph.output:
        if value.name not in visible:
            raise InvalidModelError(f"the graph's output '{value.name}' is never produced")
    _sort(graph, defined | outer)
    for node in graph.node:
        for subgraph in _subgraphs(node):
            _check_graph(subgraph, frozenset(visible))


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    found = []
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found.append(attribute.g)
        found.extend(attribute.graphs)
    return found


def _sort(graph: onnx.GraphProto, available: set[str]) -> None:
    """Puts the nodes in an order in which every value is produced before its use."""
    ready = set(available)
    pending = [(node, _uses(node) - ready) for node in graph.node]
    in_order: list[onnx.NodeProto] = []
    own = {name for node in graph.node for name in node.output if name}
    moved = False
    while pending:
        blocked = []
        for node, uses in pending:
            if all(name in ready or name not in own for name in uses):
                in_order.append(node)
                ready.update(node.output)
            else:
                blocked.append((node, uses))
        if len(blocked) == len(pending):
            node = blocked[0][0]
            raise InvalidModelError(f"the graph has a cycle through {node.op_type} '{node.name}'")
        moved = moved or bool(blocked)
        pending = blocked
    if moved:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in in_order]
        del graph.node[:]
        graph.node.extend(copies)


def _uses(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, also from inside its subgraphs."""
    names = {name for name in node.input if name}
    for subgraph in _subgraphs(node):
        inside = {value.name for value in subgraph.input} | {t.name for t in subgraph.initializer}
        for inner in subgraph.node:
            names |= _uses(inner)
            inside |= set(inner.output)
        names |= {value.name for value in subgraph.output}
        names -= inside
    return names
