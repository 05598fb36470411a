"""Building groups of candidates on this machine, many at a time, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..runtime.processor import usable_cores
from .build_kernel import build_kernel
from .isolation import Failure, FailureKind, IsolatedCalls
from .measurement import BuiltKernel, Candidate, Group, Measurement, Status

BuiltGroup: TypeAlias = tuple[BuiltKernel | Measurement, ...]
"""For each candidate its library, or the measurement that says why there is none."""

_Key: TypeAlias = tuple[str, tuple[tuple[str, int], ...] | None, str]


@dataclass
class IsolatedBuilder:
    """Builds candidates; defaults, which are in nearly every group, only once.

    Attributes:
        limit: seconds for one build.
        at_once: how many builds run at the same time.
    """

    limit: float = 60.0
    at_once: int = field(default_factory=usable_cores)
    _defaults: dict[_Key, BuiltKernel | Measurement] = field(default_factory=dict)

    def build(self, groups: Sequence[Group]) -> list[BuiltGroup]:
        """The libraries of every group, in order."""
        wanted = {_key(candidate): candidate for group in groups for candidate in group}
        missing = {key: candidate for key, candidate in wanted.items() if key not in self._defaults}
        built = dict(zip(missing, self.outcomes(list(missing.values())), strict=True))
        self._defaults |= {key: kernel for key, kernel in built.items() if missing[key].knobs is None}
        built |= self._defaults
        return [tuple(built[_key(candidate)] for candidate in group) for group in groups]

    def outcomes(self, candidates: Sequence[Candidate]) -> list[BuiltKernel | Measurement]:
        """What came of building each of ``candidates``, in order."""
        calls = IsolatedCalls(build_kernel, self.limit, self.at_once)
        return [_outcome(answer) for answer in calls([(candidate,) for candidate in candidates])]


def _key(candidate: Candidate) -> _Key:
    knobs = None if candidate.knobs is None else tuple(sorted(candidate.knobs.items()))
    return candidate.kernel, knobs, candidate.target.description


def _outcome(answer: BuiltKernel | Failure) -> BuiltKernel | Measurement:
    if not isinstance(answer, Failure):
        return answer
    status = Status.TIMEOUT if answer.kind is FailureKind.TIMEOUT else Status.BUILD_ERROR
    return Measurement(status, message=f"build: {answer.message}")
