"""What earlier runs gave: the results that must not get worse, and the peer's, which never change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from ..outcome import Outcome
from .cases import SUITES, Case
from .static_rule import needless_static

FOLDER = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Record:
    """The results of one implementation.

    Attributes:
        versions: of the packages that decide them: onnx, and the implementation where it is a peer.
        cases: suite -> how many there are.
        static: suite -> names of the cases that passed with static inputs.
        needless: suite -> those among them whose outputs' ranks and types follow without.
        failed: suite -> name -> why.
    """

    versions: dict[str, str]
    cases: dict[str, int]
    static: dict[str, list[str]]
    needless: dict[str, list[str]]
    failed: dict[str, dict[str, str]]

    @classmethod
    def of(cls, cases: Sequence[Case], outcomes: Sequence[Outcome], versions: dict[str, str]) -> Record:
        """The record of a run."""
        counts = Counter(case.suite for case in cases)
        static: dict[str, list[str]] = {suite: [] for suite in SUITES}
        needless: dict[str, list[str]] = {suite: [] for suite in SUITES}
        failed: dict[str, dict[str, str]] = {suite: {} for suite in SUITES}
        for case, outcome in zip(cases, outcomes, strict=True):
            if not outcome.passed:
                failed[case.suite][case.name] = outcome.cause
            elif outcome.static_inputs:
                static[case.suite].append(case.name)
                if needless_static(case, outcome):
                    needless[case.suite].append(case.name)
        return cls(versions, {suite: counts[suite] for suite in SUITES}, static, needless, failed)

    @classmethod
    def read(cls, name: str) -> Record | None:
        """The record of an implementation, if there is one."""
        path = FOLDER / f"{name}.json"
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def write(self, name: str) -> None:
        """Keeps the record of an implementation."""
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    @property
    def title(self) -> str:
        """The peer and its version."""
        return " ".join(f"{name} {version}" for name, version in self.versions.items() if name != "onnx")

    def passed(self, suite: str) -> int:
        """How many cases of a suite passed."""
        return self.cases[suite] - len(self.failed[suite])

    def passes(self, case: Case) -> bool:
        """Whether a case passed."""
        return case.name not in self.failed[case.suite]


def versions_of(*packages: str) -> dict[str, str]:
    """The installed versions; a package that is absent is left out."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def losses(record: Record, cases: Sequence[Case], outcomes: Sequence[Outcome]) -> Mapping[str, Outcome]:
    """The cases that passed when the record was made and fail now."""
    return {
        case.name: outcome
        for case, outcome in zip(cases, outcomes, strict=True)
        if record.passes(case) and not outcome.passed
    }
