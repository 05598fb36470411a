"""The choice of algorithms inside the model.

An operator that is measured alone finds its input and its weights in other caches than in the model, and what
it does to its neighbours is not seen. So the model is compiled with one choice changed at a time, and runs in
turns with what is best so far. The changes that make runs faster are then taken together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..autotune.measurement import Knobs, Measurement, RunOptions
from ..autotune.model_proposals import inside_gain
from ..autotune.model_round import RoundError
from ..autotune.records import Purpose
from ..autotune.session import Session
from ..autotune.standings import beats, median_ratio
from ..autotune.task_state import TaskState
from ..targets.cpu.kernel_identity import KernelIdentity
from .model_contest import Build, champions
from .model_variants import Choices, ModelVariants

# So many models run in turns, besides the one that is best so far.
_VARIANTS = 6
_SCREENING_PROCESSES, _CONTEST_PROCESSES = 3, 5
# So many algorithms of one operator are tried, if they had this part of the default's pace alone.
_MOST_OF_OPERATOR = 2
_LEAST_GAIN_ALONE = 0.95
_PROMISING = 1.002
# Changes are tried for this part of the time that is left, before those that won are taken together.
_PART_FOR_CHANGES = 0.5
# Of all the time, runs in one process.
_PART_OF_PROCESS = 1 / 60
_MOST_SECONDS_OF_PROCESS = 1.5

CompareModels = Callable[[Sequence[Choices], int], list[Measurement]]
"""See ``ModelVariants.compare``."""


@dataclass(frozen=True)
class ChosenAlgorithms:
    """What the choice came to.

    Attributes:
        names: of the operators that go by another algorithm than by default.
        untuned: the median seconds of a run with the defaults.
        tuned: the same divided by what the chosen algorithms gained, run for run beside the defaults.
    """

    names: tuple[str, ...]
    untuned: float
    tuned: float

    def __str__(self) -> str:
        if not self.names:
            return (
                f"inside the model: the default algorithms are best; a run takes {self.untuned * 1e3:.2f} ms"
            )
        runs = f"{self.untuned * 1e3:.2f} -> {self.tuned * 1e3:.2f} ms ({self.untuned / self.tuned:.2f}x)"
        return f"inside the model: other algorithms for {', '.join(self.names)}; a run takes {runs}"


def choose_inside(
    session: Session, build: Build, seconds: float, options: RunOptions, show: Callable[[str], None]
) -> ChosenAlgorithms | None:
    """Chooses the algorithms of a session's operators by runs of the model.

    None if there is nothing new to try, or nothing better was found.

    Args:
        session: of operators, with what was measured of each alone; what is found goes into its records.
        build: compiles the model.
        seconds: after which nothing new is tried. The last comparison comes behind them.
        options: how many threads run the model, and how far results may differ.
        show: is told, in a line, what was done.

    Raises:
        RoundError: the model cannot be compiled or run; all remains as it was.
    """
    defaults = {state.task.kernel: state.task.default for state in session.states}
    in_process = min(_MOST_SECONDS_OF_PROCESS, seconds * _PART_OF_PROCESS)
    variants = ModelVariants(build, defaults, in_process, options)
    return ModelChoice(session, variants.compare, seconds, show).run()


@dataclass
class ModelChoice:
    """Chooses algorithms inside a model. See ``choose_inside``."""

    session: Session
    compare: CompareModels
    seconds: float
    show: Callable[[str], None] = lambda _line: None
    started: float = field(default_factory=time.monotonic)
    _tried: set[frozenset[tuple[KernelIdentity, tuple[int, ...]]]] = field(default_factory=set)

    def run(self) -> ChosenAlgorithms | None:
        """Changes the best choices known, operator by operator, until nothing is gained or time is over."""
        if not self._anything_new():
            return None
        best: Choices = {}
        while self._left > 0:
            changes = self._promising_changes(best)
            better = self._best_together(best, changes) if changes else best
            if better == best:
                break
            best = better
        return self._conclude(best)

    @property
    def _left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)

    def _anything_new(self) -> bool:
        """Whether something was not tried, or not compared with the rest before a session ended."""
        current = champions(self.session)
        if not all(_confirmed(state) for state in current):
            return True
        return any(
            point not in state.inside or (inside_gain(state, point) > _PROMISING and state not in current)
            for state, point in self._alternatives()
        )

    def _alternatives(self) -> Iterator[tuple[TaskState, int]]:
        """What is tried, the operators with most of the model's arithmetic first."""
        for state in sorted(self.session.states, key=lambda state: -state.task.calls * state.task.flops):
            default = state.task.space.find(state.task.default)
            gains = state.history.gains
            near = [
                point
                for point in range(len(state.task.space))
                if point != default and gains.get(point, 1.0) >= _LEAST_GAIN_ALONE
            ]
            for point in sorted(near, key=lambda point: -gains.get(point, 1.0))[:_MOST_OF_OPERATOR]:
                yield state, point

    def _promising_changes(self, best: Choices) -> list[tuple[float, Choices]]:
        """Changes of ``best`` that make runs faster, and by what factor, the least first."""
        known = self._known_gains(best)
        new = [variant for variant in self._variants(best) if self._is_new(variant, known)]
        until = time.monotonic() + _PART_FOR_CHANGES * max(0.0, self._left)
        for first in range(0, len(new), _VARIANTS):
            if first and time.monotonic() > until:
                break
            known += self._screen(best, new[first : first + _VARIANTS])
            self.show(f"{min(len(new), first + _VARIANTS)} of {len(new)} other choices of algorithms tried")
        return sorted((each for each in known if each[0] > _PROMISING), key=lambda each: each[0])

    def _variants(self, best: Choices) -> list[Choices]:
        """All that won alone together, then ``best`` with one choice changed: those made already first."""
        variants: list[Choices] = [{**best, **self._won_alone()}]
        variants += [_without(best, kernel) for kernel in best]
        variants += [
            {**best, state.task.kernel: state.task.space.knobs(point)}
            for state, point in self._alternatives()
        ]
        return _distinct([best, *variants])[1:]

    def _won_alone(self) -> Choices:
        """The champions."""
        won = ((state.task.kernel, state.standing) for state in champions(self.session))
        return {kernel: standing.knobs for kernel, standing in won if standing and standing.knobs}

    def _is_new(self, variant: Choices, known: Sequence[tuple[float, Choices]]) -> bool:
        return _key(variant) not in self._tried and all(variant != choices for _, choices in known)

    def _known_gains(self, best: Choices) -> list[tuple[float, Choices]]:
        """What an earlier session has measured beside the defaults."""
        if best:
            return []
        return [
            (inside_gain(state, point), {state.task.kernel: state.task.space.knobs(point)})
            for state, point in self._alternatives()
            if point in state.inside
        ]

    def _screen(self, best: Choices, variants: Sequence[Choices]) -> list[tuple[float, Choices]]:
        """By what factor each of ``variants`` is faster than ``best``.

        Changes of the defaults are recorded, as they mean the same in any other session. Where all fail, one
        may have taken the others along, as they share a process: each is tried again without them.
        """
        default, *found = self._measured([best, *variants], _SCREENING_PROCESSES)
        if len(variants) > 1 and not any(each.ok for each in found):
            return [gain for variant in variants for gain in self._screen(best, [variant])]
        self._tried |= {_key(variant) for variant in variants}
        for variant, measured in zip(variants, found, strict=True):
            if not best and len(variant) == 1:
                ((kernel, knobs),) = variant.items()
                self._note(Purpose.MODEL_TRIAL, kernel, knobs, [default, measured])
        return [(median_ratio(default, each), variant) for each, variant in zip(found, variants, strict=True)]

    def _best_together(self, best: Choices, changes: Sequence[tuple[float, Choices]]) -> Choices:
        """The fastest of ``best``, its best change, the better half of them together and all together."""
        half = changes[len(changes) // 2 :]
        parts = (changes, half, changes[-1:])
        joined = [_joined(best, [choices for _, choices in part]) for part in parts]
        candidates = _distinct([best, *joined])
        if len(candidates) == 1:
            return best
        default, *found = self._measured(candidates, _CONTEST_PROCESSES)
        gains = [median_ratio(default, each) for each in found]
        first = max(range(len(gains)), key=gains.__getitem__)
        return candidates[first + 1] if beats(found[first], default) else best

    def _conclude(self, best: Choices) -> ChosenAlgorithms | None:
        """Whole runs with the defaults, with ``best`` and with what else won alone decide, in records."""
        others = {kernel: knobs for kernel, knobs in self._won_alone().items() if kernel not in best}
        if not best and not others:
            return None
        variants = _distinct([{}, best, {**best, **others}])
        found = self._measured(variants, _CONTEST_PROCESSES)
        default, more = found[0], found[-1]
        chosen = found[variants.index(best)]
        for kernel, knobs in best.items():
            self._note(Purpose.MODEL, kernel, knobs, [default, chosen])
        for kernel, knobs in others.items():
            self._note(Purpose.MODEL, kernel, knobs, [chosen, more])
        kept = champions(self.session)
        extra = any(state.task.kernel in others for state in kept)
        gain = max(1.0, median_ratio(default, more if extra else chosen)) if kept else 1.0
        names = tuple(state.task.name for state in kept)
        return ChosenAlgorithms(names, default.median, default.median / gain)

    def _measured(self, variants: Sequence[Choices], processes: int) -> list[Measurement]:
        found = self.compare(variants, processes)
        if not found[0].ok:
            raise RoundError(f"no choosing of algorithms inside the model: {found[0].message}")
        return found

    def _note(
        self, purpose: Purpose, kernel: KernelIdentity, knobs: Knobs, measured: Sequence[Measurement]
    ) -> None:
        (state,) = (state for state in self.session.states if state.task.kernel == kernel)
        self.session.note_inside(purpose, state, [knobs], measured)


def _joined(best: Choices, changed: Sequence[Choices]) -> Choices:
    """``best`` with all that is different in ``changed``; the last one decides where they disagree."""
    joined = dict(best)
    for choices in changed:
        for kernel in best.keys() - choices.keys():
            joined.pop(kernel, None)
        joined |= {kernel: knobs for kernel, knobs in choices.items() if best.get(kernel) != knobs}
    return joined


def _distinct(variants: Sequence[Choices]) -> list[Choices]:
    return [variant for number, variant in enumerate(variants) if variant not in variants[:number]]


def _without(choices: Choices, kernel: KernelIdentity) -> Choices:
    return {other: knobs for other, knobs in choices.items() if other != kernel}


def _key(choices: Choices) -> frozenset[tuple[KernelIdentity, tuple[int, ...]]]:
    return frozenset((kernel, tuple(knobs.values())) for kernel, knobs in choices.items())


def _confirmed(state: TaskState) -> bool:
    """Whether the champion has won inside the model."""
    return any(
        record.purpose is Purpose.MODEL
        and state.standing is not None
        and record.candidate.knobs == state.standing.knobs
        for record in state.records
    )
