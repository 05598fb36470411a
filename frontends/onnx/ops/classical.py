"""ai.onnx.ml: trees and linear models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te, tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T  # noqa: N812 - TVM's own name for it

from ....runtime.errors import InvalidModelError, UnsupportedOperatorError
from ..constant_tensors import constant_tensor
from ..extents import Extent, as_expression
from ..loops import loop, loop_kernel, when
from ..node import Node
from ..registry import converts
from ..tabulate import tabulate
from ..values import Array

_DOMAIN = "ai.onnx.ml"
_MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"]
_MEMBER = _MODES.index("BRANCH_MEMBER")
_POST = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]


@converts("LinearRegressor", domain=_DOMAIN)
def linear_regressor(node: Node) -> Expr:
    return _post_transformed(
        node, _scores(node, node.integer("targets", 1)), node.text("post_transform", "NONE")
    )


@converts("LinearClassifier", domain=_DOMAIN)
def linear_classifier(node: Node) -> list[Expr]:
    if not node.has_attribute("classlabels_ints"):
        raise UnsupportedOperatorError(f"{node.label}: strings are not supported")
    labels = np.array(node.integers("classlabels_ints"), np.int64)
    scores = _scores(node, len(node.numbers("coefficients")) // int(node.shape(0)[-1]))
    if len(labels) == 2 and int(node.builder.shape(scores)[-1]) == 1:
        negative = node.emit(relax.op.negative(scores))
        scores = node.emit(relax.op.concat([negative, scores], -1))
    best = node.emit(relax.op.argmax(scores, -1))
    label = node.emit(relax.op.take(node.builder.constant(labels), best, 0, "clip"))
    return [label, _post_transformed(node, scores, node.text("post_transform", "NONE"))]


def _scores(node: Node, rows: int) -> Expr:
    """x W + b."""
    weight = np.array(node.numbers("coefficients"), np.float32).reshape(rows, -1)
    x = node.builder.cast(node.tensor(0), "float32")
    if node.rank(0) == 1:
        x = node.builder.reshape(x, [1, *node.shape(0)])
    total = node.emit(relax.op.matmul(x, node.builder.constant(np.ascontiguousarray(weight.T))))
    bias = np.array(node.attribute("intercepts", [0.0] * rows), np.float32)
    return node.emit(relax.op.add(total, node.builder.constant(bias)))


def _post_transformed(node: Node, scores: Expr, kind: str) -> Expr:
    if kind == "NONE":
        return scores
    if kind == "LOGISTIC":
        return relax.op.sigmoid(scores)
    if kind == "SOFTMAX":
        return relax.op.nn.softmax(scores, -1)
    raise InvalidModelError(f"post_transform {kind} is not supported")


@dataclass(frozen=True)
class _Trees:
    """Trees of which each inner node has a feature, a comparison, a value and two successors.

    Attributes:
        roots: an inner node each, or a leaf as -1 - its number.
        nodes: int64 [count, 5]: feature, mode, successor if true, if false, whether NaN counts as true.
        values: what features are compared with; of a member test, unused.
        members: int64 [count, 2]: start and end of a test's values in ``sets``.
        leaf_starts: [leaves + 1], where each leaf's votes start.
        targets, weights: the votes.
    """

    roots: Array
    nodes: Array
    values: Array
    members: Array
    sets: Array
    leaf_starts: Array
    targets: Array
    weights: Array


def _voted(node: Node, trees: _Trees, classes: int, aggregate: str) -> Expr:
    """Sums, averages or extrema of the votes that the rows of [n, features] reach: [n, classes]."""
    rows = node.shape(0)[0]
    dtype = "float64" if node.dtype(0) == "float64" else "float32"
    x = node.builder.cast(node.tensor(0), dtype)
    tables = [trees.roots, trees.nodes, trees.values.astype(dtype), trees.members, trees.sets.astype(dtype)]
    tables += [trees.leaf_starts, trees.targets, trees.weights.astype(dtype)]
    count = len(trees.roots)
    extremum = aggregate in ("MIN", "MAX")

    def statements(inputs: list[Any], outputs: list[Any]) -> None:
        data, roots, nodes, values, members, sets, starts, targets, weights = inputs
        result, state, voted = outputs
        with loop(rows) as row:
            with loop(classes) as target:
                result[row, target] = tirx.const(0, dtype)
                voted[target] = tirx.IntImm("int64", 0)
            with loop(count) as tree:
                state[0] = roots[tree]
                with T.While(state[0] >= 0):
                    _descend(data, nodes, values, (members, sets), state, row)
                leaf = -1 - state[0]
                with loop(starts[leaf + 1] - starts[leaf]) as vote:
                    place = starts[leaf] + vote
                    target, value = targets[place], weights[place]
                    old = result[row, target]
                    if extremum:
                        better = tirx.max(old, value) if aggregate == "MAX" else tirx.min(old, value)
                        value = tirx.Select(voted[target] == 0, value, better)
                    else:
                        value = old + value
                    result[row, target] = value
                    voted[target] = tirx.IntImm("int64", 1)
            if aggregate == "AVERAGE":
                with loop(classes) as target:
                    result[row, target] = result[row, target] / tirx.const(count, dtype)

    types: list[tuple[list[Extent], str]] = [([rows, classes], dtype), ([2], "int64"), ([classes], "int64")]
    constants = [node.builder.constant(table) for table in tables]
    return loop_kernel(node.builder, [x, *constants], types, statements, "tree_ensemble")[0]


def _descend(data: Any, nodes: Any, values: Any, membership: tuple[Any, Any], state: Any, row: Any) -> None:
    """Goes from the inner node state[0] to one of its successors."""
    here = state[0]
    feature, mode, limit = data[row, nodes[here, 0]], nodes[here, 1], values[here]
    members, sets = membership
    ordered = [feature <= limit, feature < limit, feature >= limit, feature > limit]
    tests = [*ordered, feature == limit, feature != limit]
    state[1] = tirx.IntImm("int64", 0)
    for number, test in enumerate(tests):
        with when(tirx.all(mode == number, test)):
            state[1] = tirx.IntImm("int64", 1)
    with when(mode == _MEMBER), loop(members[here, 1] - members[here, 0]) as place:
        found = (sets[members[here, 0] + place] == feature).astype("int64")
        state[1] = tirx.max(state[1], found)
    with when(tirx.all(tirx.isnan(feature), nodes[here, 4] != 0)):
        state[1] = tirx.IntImm("int64", 1)
    state[0] = tirx.Select(state[1] != 0, nodes[here, 2], nodes[here, 3])


@converts("TreeEnsemble", domain=_DOMAIN, since=5)
def tree_ensemble(node: Node) -> Expr:
    """Inner nodes and leaves in tables of their own."""
    tensors = {
        name: constant_tensor(node.attribute(name))
        for name in ("nodes_modes", "nodes_splits", "leaf_weights", "membership_values")
        if node.has_attribute(name)
    }
    features, modes = node.integers("nodes_featureids"), tensors["nodes_modes"]
    count, leaves = len(features), len(tensors["leaf_weights"])
    missing = node.integers("nodes_missing_value_tracks_true", [0] * count)

    def successor(side: str, place: int) -> int:
        target = node.integers(f"nodes_{side}nodeids")[place]
        return -1 - target if node.integers(f"nodes_{side}leafs")[place] else target

    nodes = [
        [features[i], int(modes[i]), successor("true", i), successor("false", i), missing[i]]
        for i in range(count)
    ]
    members, sets = _membership(tensors.get("membership_values"), [int(mode) for mode in modes])
    trees = _Trees(
        np.array(node.integers("tree_roots"), np.int64),
        np.array(nodes, np.int64),
        tensors["nodes_splits"],
        members,
        sets,
        np.arange(leaves + 1, dtype=np.int64),
        np.array(node.integers("leaf_targetids"), np.int64),
        tensors["leaf_weights"],
    )
    aggregate = ["AVERAGE", "SUM", "MIN", "MAX"][node.integer("aggregate_function", 1)]
    scores = _voted(node, trees, node.integer("n_targets"), aggregate)
    return _post_transformed(node, scores, _POST[node.integer("post_transform", 0)])


def _membership(values: Array | None, modes: list[int]) -> tuple[Array, Array]:
    """Each node's range in the values of the member tests, which NaN separates."""
    ranges: list[list[int]] = []
    sets: list[float] = []
    position = 0
    flat = [] if values is None else values.reshape(-1).tolist()
    for mode in modes:
        start = len(sets)
        if mode == _MEMBER:
            while position < len(flat) and not np.isnan(flat[position]):
                sets.append(flat[position])
                position += 1
            position += 1
        ranges.append([start, len(sets)])
    return np.array(ranges, np.int64), np.array(sets or [0.0])


@converts("TreeEnsembleRegressor", domain=_DOMAIN)
def tree_ensemble_regressor(node: Node) -> Expr:
    base = np.array(node.attribute("base_values", [0.0] * node.integer("n_targets", 1)), np.float32)
    trees = _classical_trees(node, "target")
    scores = _voted(node, trees, len(base), node.text("aggregate_function", "SUM"))
    total = node.emit(relax.op.add(node.builder.cast(scores, "float32"), node.builder.constant(base)))
    return _post_transformed(node, total, node.text("post_transform", "NONE"))


@converts("TreeEnsembleClassifier", domain=_DOMAIN)
def tree_ensemble_classifier(node: Node) -> list[Expr]:
    if not node.has_attribute("classlabels_int64s"):
        raise UnsupportedOperatorError(f"{node.label}: strings are not supported")
    labels = np.array(node.integers("classlabels_int64s"), np.int64)
    votes = set(node.integers("class_ids"))
    binary = len(labels) == 2 and len(votes) == 1
    scores = node.builder.cast(_voted(node, _classical_trees(node, "class"), len(labels), "SUM"), "float32")
    if binary:
        return _binary_votes(node, scores, labels, next(iter(votes)))
    base = np.array(node.attribute("base_values", [0.0] * len(labels)), np.float32)
    total = node.emit(relax.op.add(scores, node.builder.constant(base)))
    best = node.emit(relax.op.argmax(total, -1))
    label = node.emit(relax.op.take(node.builder.constant(labels), best, 0, "clip"))
    return [label, _post_transformed(node, total, node.text("post_transform", "NONE"))]


def _binary_votes(node: Node, scores: Expr, labels: Array, voted: int) -> list[Expr]:
    """All votes are for one class: what it gets decides, and the other gets the rest."""
    base = float(node.attribute("base_values", [0.0])[-1])
    positive_only = all(weight >= 0 for weight in node.numbers("class_weights"))
    threshold = 0.5 if positive_only and node.text("post_transform", "NONE") == "NONE" else 0.0

    def compute(s: te.Tensor) -> list[te.Tensor]:
        def value(row: Any) -> Expr:
            return s(row, voted) + tirx.const(base, "float32")

        def label(row: Any) -> Expr:
            high, low = (tirx.const(int(labels[place]), "int64") for place in (1, 0))
            return tirx.Select(value(row) > tirx.const(threshold, "float32"), high, low)

        def both(row: Any, column: Any) -> Expr:
            rest = tirx.const(1, "float32") - value(row) if threshold else -value(row)
            return tirx.Select(column == 1, value(row), rest)

        rows = as_expression(node.builder.shape(scores)[0])
        return [tabulate((rows,), label, name="label"), tabulate((rows, 2), both, name="votes")]

    label, both = node.te(compute, scores, name="binary_votes")
    return [label, _post_transformed(node, both, node.text("post_transform", "NONE"))]


def _classical_trees(node: Node, kind: str) -> _Trees:
    """The tables of opset 1: inner nodes and leaves mixed, named by tree and number."""
    ids = list(zip(node.integers("nodes_treeids"), node.integers("nodes_nodeids"), strict=True))
    modes = node.texts("nodes_modes")
    number: dict[tuple[int, int], int] = {}
    leaves = 0
    for name, mode in zip(ids, modes, strict=True):
        number[name] = -1 - leaves if mode == "LEAF" else len(number) - leaves
        leaves += mode == "LEAF"
    features = node.integers("nodes_featureids")
    true, false = node.integers("nodes_truenodeids"), node.integers("nodes_falsenodeids")
    missing = node.integers("nodes_missing_value_tracks_true", [0] * len(ids))
    values = node.numbers("nodes_values")
    kept = [place for place, mode in enumerate(modes) if mode != "LEAF"]
    nodes = [
        [
            features[i],
            _MODES.index(modes[i]),
            number[ids[i][0], true[i]],
            number[ids[i][0], false[i]],
            missing[i],
        ]
        for i in kept
    ]
    starts, targets, weights = _votes(node, kind, number, leaves)
    roots = {tree: number[tree, first] for tree, first in reversed(ids)}
    return _Trees(
        np.array(list(roots.values()), np.int64),
        np.array(nodes or [[0, 0, -1, -1, 0]], np.int64),
        np.array([values[i] for i in kept] or [0.0]),
        np.zeros((max(len(kept), 1), 2), np.int64),
        np.zeros(1),
        starts,
        targets,
        weights,
    )


def _votes(
    node: Node, kind: str, number: dict[tuple[int, int], int], leaves: int
) -> tuple[Array, Array, Array]:
    """Where each leaf's votes start, for which class or target they are, and their weights."""
    by_leaf: list[list[tuple[int, float]]] = [[] for _ in range(leaves)]
    names = zip(node.integers(f"{kind}_treeids"), node.integers(f"{kind}_nodeids"), strict=True)
    votes = zip(node.integers(f"{kind}_ids"), node.numbers(f"{kind}_weights"), strict=True)
    for name, vote in zip(names, votes, strict=True):
        by_leaf[-1 - number[name]].append(vote)
    starts = np.cumsum([0, *map(len, by_leaf)]).astype(np.int64)
    flat = [vote for votes_of_leaf in by_leaf for vote in votes_of_leaf]
    return starts, np.array([v[0] for v in flat], np.int64), np.array([v[1] for v in flat])
