"""Cutting a failing model down to the smallest part that still fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ...runtime.errors import RelaxcError
from .first_drift import Compile, all_values
from .output_error import Tolerance, compare_outputs
from .reference import Feed, Reference
from .subgraphs import Cutter, feed_of, with_outputs

AGREES = ""
DISAGREES = "wrong result"


@dataclass(frozen=True)
class FailingModel:
    """A model that fails, and inputs with which it does."""

    model: onnx.ModelProto
    feed: dict[str, Any]


@dataclass(frozen=True)
class Judge:
    """Says how a model fares.

    Attributes:
        reference: what is right.
        compile_model: compiles as the artifact in question was.
        tolerance: what counts as equal.
    """

    reference: Reference
    compile_model: Compile
    tolerance: Tolerance

    def verdict(self, model: onnx.ModelProto, feed: Feed) -> str:
        """``AGREES``, ``DISAGREES``, or the class of the error with which compiling or running it ends.

        Raises:
            RelaxcError: the reference fails.
        """
        expected = self.reference.run(model, feed)
        try:
            executable = self.compile_model(model)
            actual = executable.run({spec.name: feed[spec.name] for spec in executable.inputs})
        except Exception as error:
            return type(error).__name__
        errors = compare_outputs(expected, actual, self.tolerance)
        return AGREES if all(error.agrees for error in errors) else DISAGREES


def reduce_model(
    model: onnx.ModelProto,
    feed: Feed,
    judge: Judge,
    report: Callable[[str], None] = lambda _step: None,
    suspect: int | None = None,
) -> FailingModel:
    """The smallest part of a model that fails in the same way, by delta debugging over its nodes.

    Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002: no node can be left out
    of the result. What the missing nodes gave is taken from the reference and fed, so every part computes
    with the values that it met in the whole model.

    Args:
        model: a failing model, its nodes in topological order.
        feed: a value for every input.
        judge: decides what fails.
        report: is told, in one line each, what is going on.
        suspect: the position of a node that may fail alone; it is tried first.

    Raises:
        RelaxcError: the model does not fail, or the reference cannot run it.
    """
    wanted = judge.verdict(model, feed)
    if wanted == AGREES:
        raise RelaxcError("the model does not fail with these inputs: there is nothing to reduce")
    cutter = Cutter(model, all_values(model, feed, judge.reference))

    def fails(positions: Sequence[int]) -> bool:
        try:
            return judge.verdict(*cutter.cut(positions)) == wanted
        except RelaxcError:
            # The reference refuses the part, so nothing is known about it.
            return False

    positions = list(range(len(model.graph.node)))
    if suspect is not None and fails([suspect]):
        positions = [suspect]
    elif not fails(positions):
        return FailingModel(model, dict(feed))
    positions = minimal_subset(positions, fails, lambda left: report(f"{left} nodes still fail"))
    return _with_failing_output(FailingModel(*cutter.cut(positions)), wanted, judge)


def minimal_subset(
    items: Sequence[int],
    fails: Callable[[Sequence[int]], bool],
    report: Callable[[int], None] = lambda _left: None,
) -> list[int]:
    """A part of ``items`` that fails, and would not without any single one of it.

    Args:
        items: fail.
        fails: whether a part does.
        report: is told how many are left whenever there are fewer.
    """
    current, parts = list(items), 2
    while len(current) > 1:
        chunks = _split(current, parts)
        smaller = next((chunk for chunk in chunks if fails(chunk)), None)
        if smaller is not None:
            current, parts = smaller, 2
        elif (rest := _rest_that_fails(current, chunks, fails)) is not None:
            current, parts = rest, max(parts - 1, 2)
        elif parts < len(current):
            parts = min(2 * parts, len(current))
            continue
        else:
            break
        report(len(current))
    return current


def _split(items: list[int], parts: int) -> list[list[int]]:
    """Parts whose lengths differ by one at most."""
    edges = [len(items) * part // parts for part in range(parts + 1)]
    return [items[start:end] for start, end in itertools.pairwise(edges)]


def _rest_that_fails(
    items: list[int], chunks: list[list[int]], fails: Callable[[Sequence[int]], bool]
) -> list[int] | None:
    if len(chunks) == 2:
        return None  # each is the rest of the other
    for chunk in chunks:
        rest = [item for item in items if item not in chunk]
        if fails(rest):
            return rest
    return None


def _with_failing_output(failing: FailingModel, wanted: str, judge: Judge) -> FailingModel:
    """Leaves one output where one is enough."""
    names = [output.name for output in failing.model.graph.output]
    for name in names if len(names) > 1 else []:
        part = with_outputs(failing.model, [name])
        try:
            smaller = FailingModel(part, feed_of(part, failing.feed))
            if judge.verdict(smaller.model, smaller.feed) == wanted:
                return smaller
        except RelaxcError:
            continue
    return failing
