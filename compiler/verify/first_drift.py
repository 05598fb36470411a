"""The first node of a model whose result differs from the reference's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ...runtime import Executable
from .output_error import OutputError, Tolerance, compare_outputs, form
from .reference import Feed, Reference
from .subgraphs import feed_of, names_read, values_of, with_outputs

Compile = Callable[[onnx.ModelProto], Executable]

# Every value that becomes an output keeps its node from being fused: not too many at once, then.
CHUNK = 64


@dataclass(frozen=True)
class InputRange:
    """What a node read.

    Attributes:
        name: of the value.
        form: dtype and shape.
        lowest, highest: of its finite elements; None where there is no number.
    """

    name: str
    form: str
    lowest: float | None
    highest: float | None

    def __str__(self) -> str:
        if self.lowest is None or self.highest is None:
            return f"{self.name}: {self.form}"
        return f"{self.name}: {self.form} in [{self.lowest:.6g}, {self.highest:.6g}]"


@dataclass(frozen=True)
class Drift:
    """A node that gives something else than the reference, although it reads the same.

    Attributes:
        node: the node.
        error: of the result that differs.
        inputs: what it read.
    """

    node: onnx.NodeProto
    error: OutputError
    inputs: tuple[InputRange, ...]


def find_first_drift(
    model: onnx.ModelProto,
    feed: Feed,
    reference: Reference,
    compile_model: Compile,
    tolerance: Tolerance,
    report: Callable[[str], None] = lambda _step: None,
) -> Drift | None:
    """The first node, in topological order, whose result is not the reference's.

    The nodes before it agree, and so do its inputs. The model is compiled anew with a number of intermediate
    values as outputs at a time, until one differs.

    Args:
        model: its nodes are in topological order.
        feed: a value for every input.
        reference: what is right.
        compile_model: compiles a model as the artifact in question was.
        tolerance: what counts as equal.
        report: is told, in one line each, what is going on.

    Returns:
        The node, or None where all results agree as long as each one is an output: then the disagreement
        comes from compiling several nodes into one kernel.

    Raises:
        RelaxcError: the reference or the compiler fails.
    """
    names = values_of(model)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        report(f"comparing values {start + 1} to {start + len(chunk)} of {len(names)}")
        part = with_outputs(model, chunk)
        expected = reference.run(part, feed_of(part, feed))
        executable = compile_model(part)
        actual = executable.run({spec.name: feed[spec.name] for spec in executable.inputs})
        for error in compare_outputs(expected, actual, tolerance):
            if not error.agrees:
                return _drift(model, error, feed, reference)
    return None


def all_values(model: onnx.ModelProto, feed: Feed, reference: Reference) -> dict[str, Any]:
    """Every input and every intermediate value of the main graph. Raises RelaxcError as a reference does."""
    return {**feed, **_values(model, values_of(model), feed, reference)}


def _values(model: onnx.ModelProto, names: Sequence[str], feed: Feed, reference: Reference) -> dict[str, Any]:
    part = with_outputs(model, names)
    return reference.run(part, feed_of(part, feed))


def ranges(values: Mapping[str, Any], names: Sequence[str]) -> Iterator[InputRange]:
    """The ranges of named values."""
    for name in names:
        value = values.get(name)
        if not isinstance(value, np.ndarray | np.generic):
            yield InputRange(name, "no tensor", None, None)
            continue
        array = np.asarray(value)
        numbers = array.astype(np.float64) if array.dtype.kind not in "OUSTc" else np.zeros(0)
        finite = numbers[np.isfinite(numbers)]
        limits = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
        yield InputRange(name, form(array), *limits)


def _drift(model: onnx.ModelProto, error: OutputError, feed: Feed, reference: Reference) -> Drift:
    node = _producer(model, error.name)
    read = [name for name in dict.fromkeys([*node.input, *sorted(names_read(node))]) if name]
    computed = [name for name in read if name in set(values_of(model))]
    values: dict[str, Any] = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    values |= feed
    if computed:
        values |= _values(model, computed, feed, reference)
    return Drift(node, error, tuple(ranges(values, read)))


def _producer(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node whose output it is; the entries of a sequence are numbered (``name_0``)."""
    for node in model.graph.node:
        if name in node.output:
            return node
    return _producer(model, name.rpartition("_")[0])
