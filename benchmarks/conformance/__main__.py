"""Runs the backend suite of the installed onnx, and holds the result against the recorded one.

Run it as ``python -m benchmarks.conformance`` in the root folder; ``make conformance`` does. Every case runs
in a process that may crash or hang. Exits 1 if a suite passes fewer cases than recorded, or, with --sample,
if any case fails that passed when the record was made.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..isolation import run_isolated
from ..outcome import Outcome
from .cases import SUITES, Case, load_cases
from .implementations import IMPLEMENTATIONS
from .operators_page import operators_page
from .records import Record, losses, versions_of

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"

# One case in so many is in the sample, by a hash of its name: the same ones however many there are.
_SAMPLE_STRIDE = 12


def main() -> int:
    """Parse, run, report; returns the exit code."""
    arguments = _parser().parse_args()
    cases = _chosen(load_cases(), arguments)
    record = Record.read("relaxc")
    if arguments.sample and record is not None:
        cases = [case for case in cases if record.passes(case)]
    outcomes = _run("relaxc", cases, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(_plain(cases, outcomes), indent=1))
    if arguments.cases or arguments.sample:
        _print_failures(cases, outcomes)
        return int(any(not outcome.passed for outcome in outcomes))
    current = Record.of(cases, outcomes, versions_of("onnx"))
    peer = _peer(arguments.peer, cases, arguments)
    _print_totals(current, peer)
    _print_causes(outcomes)
    PAGE.write_text(operators_page(cases, outcomes, current, peer))
    if arguments.record:
        current.write("relaxc")
        return 0
    return compare_with_record(record, current, cases, outcomes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance", description=__doc__)
    parser.add_argument("cases", nargs="*", help="only cases of these names; * stands for anything")
    parser.add_argument("--sample", action="store_true", help="a fixed sample of what passed before")
    parser.add_argument("--peer", choices=sorted(IMPLEMENTATIONS.keys() - {"relaxc"}), help="count it, too")
    parser.add_argument("--record", action="store_true", help="make this result the one to be held")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once")
    parser.add_argument("--limit", type=float, default=30, help="seconds for a case (default: 30)")
    parser.add_argument("--json", type=Path, help="write every case's outcome to this file")
    return parser


def _chosen(cases: Sequence[Case], arguments: argparse.Namespace) -> list[Case]:
    if arguments.cases:
        patterns = arguments.cases
        return [case for case in cases if any(fnmatch.fnmatchcase(case.name, p) for p in patterns)]
    if arguments.sample:
        return [case for case in cases if zlib.crc32(case.name.encode()) % _SAMPLE_STRIDE == 0]
    return list(cases)


def _run(name: str, cases: Sequence[Case], arguments: argparse.Namespace) -> list[Outcome]:
    started = time.monotonic()
    failed = 0

    def report(done: int, _case: Case, outcome: Outcome) -> None:
        nonlocal failed
        failed += not outcome.passed
        if done % 100 == 0 or done == len(cases):
            seconds = time.monotonic() - started
            print(f"{name}: {done} of {len(cases)} cases, {failed} failed, {seconds:.0f} s", flush=True)

    return run_isolated(IMPLEMENTATIONS[name], cases, arguments.jobs, arguments.limit, report)


def _peer(name: str | None, cases: Sequence[Case], arguments: argparse.Namespace) -> Record | None:
    """The peer's record, made anew only where it is of other versions than are installed."""
    if name is None:
        return None
    record, versions = Record.read(name), versions_of("onnx", name)
    if record is None or (name in versions and record.versions != versions):
        record = Record.of(cases, _run(name, cases, arguments), versions)
        record.write(name)
    return record


def _print_totals(current: Record, peer: Record | None) -> None:
    its_name = peer.title if peer else ""
    print(f"{'suite':20}{'cases':>7}{'passed':>8}{'static':>8}{'needless':>10}  {its_name}")
    for suite in SUITES:
        beside = peer.passed(suite) if peer else ""
        counts = f"{current.cases[suite]:7}{current.passed(suite):8}{len(current.static[suite]):8}"
        counts += f"{len(current.needless[suite]):10}"
        print(f"{suite:20}{counts}  {beside}")


def _print_causes(outcomes: Sequence[Outcome]) -> None:
    causes = Counter(outcome.cause for outcome in outcomes if not outcome.passed)
    for cause, count in causes.most_common():
        print(f"{count:6} {cause}")


def _print_failures(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> None:
    for case, outcome in zip(cases, outcomes, strict=True):
        if not outcome.passed:
            print(f"{case.name}: {outcome.cause}: {outcome.reason}")
    print(f"{sum(outcome.passed for outcome in outcomes)} of {len(cases)} passed")


def compare_with_record(
    record: Record | None, current: Record, cases: Sequence[Case], outcomes: Sequence[Outcome]
) -> int:
    """Prints what got worse; returns the exit code."""
    if record is None or record.versions != current.versions:
        print("there is no record for this version of onnx; --record makes one", file=sys.stderr)
        return 0
    for name, outcome in losses(record, cases, outcomes).items():
        print(f"passed before: {name}: {outcome.cause}: {outcome.reason}")
    fewer = [suite for suite in SUITES if current.passed(suite) < record.passed(suite)]
    for suite in fewer:
        text = f"{suite}: {current.passed(suite)} cases pass, {record.passed(suite)} did; see 'passed before'"
        print(text, file=sys.stderr)
    return int(bool(fewer))


def _plain(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> dict[str, dict[str, object]]:
    return {
        case.name: {"suite": case.suite, **asdict(outcome)}
        for case, outcome in zip(cases, outcomes, strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
