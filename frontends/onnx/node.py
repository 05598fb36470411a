"""One ONNX node as its converter sees it: attributes with types, inputs with values."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as PySequence
from typing import Any

import numpy as np
import onnx
from tvm.ir import Expr

from ...runtime.errors import InvalidModelError, StaticInputRequired
from .branch_choices import Choices
from .extents import Extent, Extents
from .graph_builder import GraphBuilder
from .values import Array, NarrowTensor, RunTimeSequence, Sequence, SymbolicArray, Value, is_shape_like


class Node:
    """A node under conversion.

    Attributes:
        op_type, domain: the operator.
        opset: version of the domain's operator set that the model imports.
        inputs: values in the operator's order; None where absent.
        outputs: names; "" where nobody wants the output.
        builder: the function under construction.
        extents: the model's symbolic dimensions.
        choices: settles conditions that shapes leave open.
    """

    def __init__(
        self,
        proto: onnx.NodeProto,
        opset: int,
        inputs: PySequence[Value],
        builder: GraphBuilder,
        run_subgraph: Callable[[onnx.GraphProto, PySequence[Value]], list[Value]],
        static_names: Callable[[str], tuple[str, ...]],
        choices: Choices,
    ) -> None:
        self.proto = proto
        self.op_type: str = proto.op_type
        self.domain: str = proto.domain
        self.opset = opset
        self.inputs = tuple(inputs)
        self.outputs: tuple[str, ...] = tuple(proto.output)
        self.builder = builder
        self.extents: Extents = builder.extents
        self.emit = builder.emit
        self.te = builder.te
        self._attributes = {attribute.name: attribute for attribute in proto.attribute}
        self._run_subgraph = run_subgraph
        self._static_names = static_names
        self.choices = choices

    def with_inputs(self, inputs: PySequence[Value]) -> Node:
        """The same node on other values."""
        return Node(
            self.proto,
            self.opset,
            inputs,
            self.builder,
            self._run_subgraph,
            self._static_names,
            self.choices,
        )

    def as_operator(self, op_type: str, opset: int, inputs: PySequence[Value]) -> Node:
        """A standard operator with this node's name, attributes and outputs."""
        proto = onnx.NodeProto()
        proto.CopyFrom(self.proto)
        proto.op_type, proto.domain = op_type, ""
        return Node(proto, opset, inputs, self.builder, self._run_subgraph, self._static_names, self.choices)

    @property
    def label(self) -> str:
        """How messages name the node."""
        return describe(self.proto)

    # Attributes

    def has_attribute(self, name: str) -> bool:
        return name in self._attributes

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value as onnx gives it, or the default."""
        if name not in self._attributes:
            return default
        return onnx.helper.get_attribute_value(self._attributes[name])

    def integer(self, name: str, default: int | None = None) -> int:
        return int(self._required(name, default))

    def number(self, name: str, default: float | None = None) -> float:
        return float(self._required(name, default))

    def text(self, name: str, default: str | None = None) -> str:
        value = self._required(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: PySequence[int] | None = None) -> tuple[int, ...]:
        return tuple(int(value) for value in self._required(name, default))

    def optional_integers(self, name: str) -> tuple[int, ...] | None:
        return self.integers(name) if name in self._attributes else None

    def numbers(self, name: str, default: PySequence[float] | None = None) -> tuple[float, ...]:
        return tuple(float(value) for value in self._required(name, default))

    def texts(self, name: str, default: PySequence[str] = ()) -> tuple[str, ...]:
        return tuple(v.decode() if isinstance(v, bytes) else v for v in self.attribute(name, default))

    def _required(self, name: str, default: Any) -> Any:
        value = self.attribute(name, default)
        if value is None:
            raise InvalidModelError(f"attribute '{name}' is missing")
        return value

    # Inputs

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def value(self, index: int) -> Value:
        """An input as it is; None if absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int) -> Expr:
        """An input as a Relax tensor."""
        if not self.has(index):
            raise InvalidModelError(f"input {index} is missing")
        return self.builder.tensor(self.inputs[index])

    def tensors(self) -> list[Expr]:
        """All inputs as Relax tensors."""
        return [self.tensor(index) for index in range(len(self.inputs))]

    def shape(self, index: int) -> tuple[Extent, ...]:
        """An input's extents."""
        value = self.value(index)
        if isinstance(value, np.ndarray | SymbolicArray):
            return value.shape
        if isinstance(value, NarrowTensor):
            return self.builder.shape(value.storage)
        return self.builder.shape(self.tensor(index))

    def rank(self, index: int) -> int:
        return len(self.shape(index))

    def dtype(self, index: int) -> str:
        """An input's element type."""
        value = self.value(index)
        if isinstance(value, np.ndarray | SymbolicArray | NarrowTensor):
            return str(value.dtype)
        return self.builder.dtype(self.tensor(index))

    def sequence(self, index: int) -> Sequence | RunTimeSequence:
        """An input as a sequence."""
        value = self.value(index)
        if not isinstance(value, Sequence | RunTimeSequence):
            raise InvalidModelError(f"input {index} must be a sequence")
        return value

    def axis(self, name: str, default: int, rank: int) -> int:
        """An axis attribute, counted from the front."""
        return normalize_axis(self.integer(name, default), rank)

    def constant(self, index: int) -> Array:
        """An input that decides a rank, a type or an algorithm. Raises StaticInputRequired if not known."""
        value = self.value(index)
        if isinstance(value, np.ndarray):
            return value
        raise self.static_required(index)

    def extent_list(self, index: int) -> list[Extent]:
        """An input that holds extents, flattened. Data becomes new symbolic dimensions, never negative."""
        if not self.is_shape_like(index):
            return self._extents_from_data(index)
        return self.integer_list(index)

    def integer_list(self, index: int) -> list[Extent]:
        """An input that holds positions or axes, flattened. Raises StaticInputRequired for data."""
        value = self.value(index)
        if isinstance(value, np.ndarray):
            return [int(element) for element in value.reshape(-1)]
        if isinstance(value, SymbolicArray):
            return list(value.elements.reshape(-1))
        raise self.static_required(index)

    def _extents_from_data(self, index: int) -> list[Extent]:
        count = self.extents.product(self.shape(index))
        if not isinstance(count, int):
            raise self.static_required(index)
        vector = self.builder.reshape(self.tensor(index), (count,))
        return self.builder.read_extents(vector, self.outputs[0])

    def is_shape_like(self, index: int) -> bool:
        """Whether an input is present and depends on nothing but symbolic dimensions."""
        return self.has(index) and is_shape_like(self.inputs[index])

    def static_required(self, index: int) -> StaticInputRequired:
        """The error for an input whose value must be known when the model is compiled."""
        names = self._static_names(self.proto.input[index])
        listed = ", ".join(f"'{name}'" for name in names)
        return StaticInputRequired(
            f"{self.label}: input '{self.proto.input[index]}' decides a shape or type and must be known "
            f"when compiling; pass static_inputs for {listed or 'the inputs that it is computed from'}",
            names,
        )

    # Construction

    def wants(self, index: int) -> bool:
        """Whether an output is used."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def subgraph(self, name: str) -> onnx.GraphProto:
        return self._required(name, None)

    def run_subgraph(self, name: str, inputs: PySequence[Value] = ()) -> list[Value]:
        """Converts an attribute's graph in place; returns its outputs."""
        return self._run_subgraph(self.subgraph(name), inputs)


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises InvalidModelError if it does not exist."""
    if not -rank <= axis < rank:
        raise InvalidModelError(f"axis {axis} does not exist in rank {rank}")
    return axis % rank if rank else 0


def describe(proto: onnx.NodeProto) -> str:
    """A node in messages: operator and name, or its first output where it has no name."""
    name = proto.name or (proto.output[0] if proto.output else "")
    domain = f"{proto.domain}." if proto.domain not in ("", "ai.onnx") else ""
    return f"{domain}{proto.op_type} '{name}'"
