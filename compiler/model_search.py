"""The second part of a tuning session on this machine: the search goes on inside the model.

A kernel that is measured alone finds its input where its own last call left it. In the model another kernel
wrote it, on cores that may share the work in another way, and other data lie in the caches. So schedules that
did well alone, and their neighbours, are measured in runs of the model: in each round several of every kernel
at once, the kernels varying independently of each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np

from ..autotune.built_groups import measure_built
from ..autotune.isolated_builder import BuiltGroup, IsolatedBuilder
from ..autotune.measurement import BuiltKernel, Candidate, Knobs, Measurement, RunOptions
from ..autotune.model_proposals import champion, failure_of_champion, inside_gain, leaders, proposals
from ..autotune.model_round import Contestants, ModelAtHand, RoundError, run_round
from ..autotune.records import Purpose
from ..autotune.session import Session, joined
from ..autotune.task_state import TaskState
from ..runtime import Executable
from ..targets.cpu.kernel_identity import KernelIdentity
from .sample_inputs import sample_inputs

# New schedules of one kernel in a round, and of all kernels together; each takes some 0.1 s to build.
_MOST_NEW = 5
_NEW_IN_ROUND = 60
# Contests are held so often in a search, since other programs on the machine favour now these schedules, now
# those; each in several processes, since where memory comes to lie differs between them.
_CONTESTS = 3
_CONTEST_TURNS = 3
# Schedules that stand in a contest besides the champion, if they promise at least so much.
_CHALLENGERS = 3
# In less time nothing is measured well.
_LEAST_SECONDS = 6.0
_PROMISING = 1.003


MeasureRound = Callable[[ModelAtHand, Sequence[Contestants], float, RunOptions], list[list[Measurement]]]
"""See ``run_round``."""


class Builder(Protocol):
    """See ``IsolatedBuilder``."""

    def outcomes(self, candidates: Sequence[Candidate]) -> list[BuiltKernel | Measurement]:
        """What came of building each of ``candidates``, in order."""


@dataclass(frozen=True)
class SearchTimes:
    """How long the parts of a search take.

    Attributes:
        rounds: seconds from the beginning, after which no new round begins, contests on the way included.
        runs: seconds of runs in a round.
        contest: seconds of runs in each turn of a contest.
        whole_runs: seconds in each process that compares the tuned model with the untuned one.
    """

    rounds: float
    runs: float
    contest: float
    whole_runs: float

    @classmethod
    def within(cls, seconds: float) -> SearchTimes:
        """Leaves a quarter of ``seconds`` to the last contest, whole runs and compilations."""
        seconds = max(seconds, _LEAST_SECONDS)
        return cls(0.75 * seconds, min(6.0, seconds / 12), min(3.0, seconds / 60), min(3.0, seconds / 60))


def search_model(
    session: Session,
    untuned: Executable,
    options: RunOptions,
    times: SearchTimes,
    show: Callable[[str], None],
) -> None:
    """Finds champions inside the model.

    Args:
        session: has ended; what is found goes into its records.
        untuned: the model with the defaults.
        options: how kernels are run.
        times: how long to search.
        show: is told, in a line, what was done.

    Raises:
        RoundError: the model cannot be measured in.
    """
    with TemporaryDirectory(prefix="relaxc-") as folder:
        artifact = Path(folder) / "model.so"
        untuned.save(artifact)
        model = ModelAtHand(artifact, sample_inputs(untuned.inputs, {}))
        ModelSearch(session, model, options, times, show).run()


@dataclass
class ModelSearch:
    """Searches inside a model.

    Attributes:
        session: has ended; what is found goes into its records.
        model: with the defaults.
        options: how kernels are run.
        times: how long to search.
        show: is told, in a line, what was done.
        builder: makes the kernels.
        measure: a round.
    """

    session: Session
    model: ModelAtHand
    options: RunOptions
    times: SearchTimes
    show: Callable[[str], None] = lambda _line: None
    builder: Builder = field(default_factory=IsolatedBuilder)
    measure: MeasureRound = run_round
    _built: dict[tuple[KernelIdentity, int | None], BuiltKernel | Measurement] = field(default_factory=dict)

    def run(self) -> None:
        """Rounds until the time is over; now and then a contest of those that promise a gain.

        Raises:
            RoundError: the model cannot be measured in.
        """
        started, number, going = time.monotonic(), 0, True
        for contest in range(1, _CONTESTS + 1):
            until = started + self.times.rounds * contest / _CONTESTS
            while going and (number == 0 or time.monotonic() < until):
                going = self._round(number)
                number += 1
                self.show(self._progress(number))
            self._contest()

    def _round(self, number: int) -> bool:
        """Tries some schedules of every kernel; False if nothing new is left, or this cannot be measured.

        Raises:
            RoundError: not even the first round can.
        """
        shares = self._shares()
        chosen = []
        for index, state in enumerate(self._usable()):
            fresh = min(_MOST_NEW, round(_NEW_IN_ROUND * shares.get(state.task.name, 0.0)))
            generator = np.random.default_rng([self.session.options.seed, number, index, len(state.inside)])
            chosen.append(_Choice(state, proposals(state, fresh, generator)))
        chosen = [choice for choice in chosen if choice.points]
        new = any(point not in choice.state.inside for choice in chosen for point in choice.points)
        try:
            if new:
                self._measure(Purpose.MODEL_TRIAL, chosen, self.times.runs)
        except RoundError as error:
            if number == 0:
                raise
            self.show(str(error))
            return False
        return new

    def _contest(self) -> None:
        """New measurements decide, as those of the rounds were chosen among many for being small."""
        chosen = []
        for state in self._usable():
            self._drop_failed(state)
            best = [point for point in leaders(state, _CHALLENGERS) if inside_gain(state, point) > _PROMISING]
            chosen.append(_Choice(state, list(dict.fromkeys([*champion(state), *best]))))
        self._measure(
            Purpose.MODEL, [choice for choice in chosen if choice.points], self.times.contest, _CONTEST_TURNS
        )

    def _drop_failed(self, state: TaskState) -> None:
        """Notes that a champion failed in a round where contests are noted, as these make champions."""
        failed, current = failure_of_champion(state), state.standing
        if failed is not None and current is not None and current.knobs is not None:
            self.session.note_inside(Purpose.MODEL, state, [current.knobs], failed)

    def _usable(self) -> list[TaskState]:
        """The tasks whose default can be measured."""
        return [state for state in self.session.states if state.standing is not None]

    def _measure(self, purpose: Purpose, chosen: Sequence[_Choice], seconds: float, turns: int = 1) -> None:
        """Measures schedules with their defaults and writes it down."""
        built = self._build(chosen)
        pairs = zip(chosen, built, strict=True)
        names = [choice.state.task.names for choice, group in pairs if isinstance(group[0], BuiltKernel)]

        def run(groups: Sequence[Sequence[BuiltKernel]]) -> list[list[Measurement]]:
            contestants = list(map(Contestants, names, map(tuple, groups)))
            rounds = [self.measure(self.model, contestants, seconds, self.options) for _ in range(turns)]
            return [
                [joined(parts) for parts in zip(*each, strict=True)] for each in zip(*rounds, strict=True)
            ]

        for choice, found in zip(chosen, measure_built(built, run), strict=True):
            self.session.note_inside(purpose, choice.state, choice.schedules, found)

    def _build(self, chosen: Sequence[_Choice]) -> list[BuiltGroup]:
        """The libraries of all choices; each is built only once."""
        keys = [[(choice.state.task.kernel, point) for point in (None, *choice.points)] for choice in chosen]
        wanted = {
            key: choice.state.task.candidate(knobs, self.session.target)
            for choice, names in zip(chosen, keys, strict=True)
            for key, knobs in zip(names, (None, *choice.schedules), strict=True)
            if key not in self._built
        }
        self._built |= zip(wanted, self.builder.outcomes(list(wanted.values())), strict=True)
        return [tuple(self._built[key] for key in group) for group in keys]

    def _shares(self) -> Mapping[str, float]:
        """The part of the model's time that each task takes."""
        return {row.state.task.name: row.share or 0.0 for row in self.session.rows()}

    def _progress(self, rounds: int) -> str:
        tried = sum(len(state.inside) for state in self.session.states)
        return f"{rounds} rounds inside the model: {tried} schedules tried"


@dataclass(frozen=True)
class _Choice:
    """Points of a task's space to be measured beside the default."""

    state: TaskState
    points: Sequence[int]

    @property
    def schedules(self) -> list[Knobs]:
        return [self.state.task.space.knobs(point) for point in self.points]
