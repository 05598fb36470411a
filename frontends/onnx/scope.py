"""Names of values in a graph, and in the graphs around it."""

from __future__ import annotations

import onnx

from ...runtime.errors import InvalidModelError
from .values import Value


class Scope:
    """The values of one graph under conversion; names not found here are looked up outside."""

    def __init__(self, graph: onnx.GraphProto, outer: Scope | None) -> None:
        self._values: dict[str, Value] = {}
        self._outer = outer
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._inputs = {declared.name for declared in graph.input}

    def bind(self, name: str, value: Value) -> None:
        self._values[name] = value

    def is_bound(self, name: str) -> bool:
        """Whether this graph itself has a value of the name already."""
        return name in self._values

    def value(self, name: str) -> Value:
        """The value of a name. Raises InvalidModelError if no graph defines it."""
        if name in self._values:
            return self._values[name]
        if self._outer is None:
            raise InvalidModelError(f"the value '{name}' is used but nothing produces it")
        return self._outer.value(name)

    def graph_inputs_of(self, name: str) -> tuple[str, ...]:
        """The main graph's inputs from whose values (not only shapes) a value is computed."""
        found: dict[str, None] = {}
        self._collect(name, found, set())
        return tuple(found)

    def _collect(self, name: str, found: dict[str, None], seen: set[str]) -> None:
        if name in seen:
            return
        seen.add(name)
        producer = self._producers.get(name)
        if producer is not None:
            if producer.op_type not in ("Shape", "Size"):
                for source in producer.input:
                    self._collect(source, found, seen)
        elif self._outer is not None:
            self._outer._collect(name, found, seen)
        elif name in self._inputs:
            found[name] = None
