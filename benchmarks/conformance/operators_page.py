"""The page of operators, ``docs/operators.md``, from the outcomes of the cases."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from ..outcome import Outcome
from .cases import Case
from .records import Record
from .static_rule import needless_static

DOMAINS = {"": "ai.onnx", "ai.onnx.ml": "ai.onnx.ml", "ai.onnx.preview.training": "ai.onnx.preview.training"}

_HEAD = """# ONNX operators

What `make conformance` found: all cases of the backend suite of onnx {onnx}, each compiled and run through
the public interface and compared as onnx's own runner does. This page is generated.

- **Opsets**: the versions of the operator's definition that the importer takes; a model of a later opset uses
  the latest definition before it.
- **Types**: element types of the inputs and outputs of the cases that pass.
- **Passed**: of the operator's own cases and their expansions into simpler operators. `-`: there are none.
- **Static**: of those that pass, how many need an input's value when compiling, because it decides a rank or
  a type. **Needless**: for how many of these onnx's shape inference finds all ranks and types without it.

"""


@dataclass
class _Row:
    """One operator."""

    results: list[tuple[Case, Outcome]] = field(default_factory=list)

    @property
    def passed(self) -> list[tuple[Case, Outcome]]:
        return [(case, outcome) for case, outcome in self.results if outcome.passed]


def operators_page(
    cases: Sequence[Case], outcomes: Sequence[Outcome], current: Record, peer: Record | None
) -> str:
    """The page as Markdown, with the totals of a peer beside ours where there is one."""
    results = list(zip(cases, outcomes, strict=True))
    rows = _rows([result for result in results if result[0].suite == "node"])
    parts = [_HEAD.format(onnx=current.versions["onnx"]), *_totals(current, peer)]
    for domain, title in DOMAINS.items():
        parts += [f"## {title}\n\n", *_table(domain, rows), "\n"]
    parts += ["## Failures\n\n", *_failures(results)]
    return "".join(parts)


def _totals(current: Record, peer: Record | None) -> Iterator[str]:
    """A row a suite."""
    beside = peer.title if peer else "Peer"
    yield f"| Suite | Cases | Passed | Static | Needless | {beside} |\n|---|---|---|---|---|---|\n"
    for suite, cases in current.cases.items():
        its_count = peer.passed(suite) if peer else "-"
        static, needless = len(current.static[suite]), len(current.needless[suite])
        yield f"| {suite} | {cases} | {current.passed(suite)} | {static} | {needless} | {its_count} |\n"
    yield "\n"


def _rows(results: Iterable[tuple[Case, Outcome]]) -> dict[tuple[str, str], _Row]:
    """By domain and operator. Expansions count for the operator that they expand."""
    results = list(results)
    operators = {case.name: _operator(case) for case, _ in results}
    rows: dict[tuple[str, str], _Row] = defaultdict(_Row)
    for case, outcome in results:
        operator = operators.get(case.unexpanded_name, operators[case.name])
        rows[operator].results.append((case, outcome))
    return rows


def _operator(case: Case) -> tuple[str, str]:
    node = case.model.graph.node[0]
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def _table(domain: str, rows: dict[tuple[str, str], _Row]) -> Iterator[str]:
    yield "| Operator | Opsets | Types | Passed | Static | Needless |\n|---|---|---|---|---|---|\n"
    versions = _versions(domain)
    for name in sorted({*versions, *(name for its_domain, name in rows if its_domain == domain)}):
        row = rows.get((domain, name), _Row())
        count = f"{len(row.passed)}/{len(row.results)}" if row.results else "-"
        static = sum(bool(outcome.static_inputs) for _, outcome in row.passed) or ""
        needless = sum(needless_static(case, outcome) for case, outcome in row.passed) or ""
        opsets = _converted(domain, name, versions.get(name, []))
        yield f"| {name} | {opsets} | {', '.join(_types(row))} | {count} | {static} | {needless} |\n"


def _versions(domain: str) -> dict[str, list[int]]:
    """Every operator of a domain, and the versions in which its definition changed."""
    versions: dict[str, list[int]] = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == domain:
            versions[schema.name].append(schema.since_version)
    return versions


def _converted(domain: str, name: str, versions: Sequence[int]) -> str:
    """The versions that the importer converts, or has a defining graph for."""
    from relaxc.frontends.onnx.function_bodies import has_body
    from relaxc.frontends.onnx.load import MIN_OPSET
    from relaxc.frontends.onnx.registry import find

    # Definitions older than the oldest opset that is taken are met as what that opset says.
    oldest = MIN_OPSET if domain == "" else 1
    usable = sorted({max(version, oldest) for version in versions})
    taken = [v for v in usable if find(domain, name, v) is not None or has_body(domain, name, v)]
    return ", ".join(map(str, taken)) or "none"


def _types(row: _Row) -> list[str]:
    found = {
        dtype
        for case, _ in row.passed
        for data in case.data_sets()
        for value in [*data.inputs, *data.outputs]
        for dtype in _element_types(value)
    }
    return sorted(found, key=_natural)


def _natural(name: str) -> list[tuple[str, int]]:
    """``int8`` before ``int16``."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", name)]


def _element_types(value: Any) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _element_types(entry)
    elif value is not None:
        dtype = np.asarray(value).dtype
        yield "string" if dtype.kind in "OU" else dtype.name


def _failures(results: Sequence[tuple[Case, Outcome]]) -> Iterator[str]:
    failed = [(case, outcome) for case, outcome in results if not outcome.passed]
    if not failed:
        yield "None.\n"
        return
    yield "| Case | Suite | Cause | Why |\n|---|---|---|---|\n"
    for case, outcome in failed:
        yield f"| {case.name} | {case.suite} | {outcome.cause} | {_cell(outcome.reason)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
