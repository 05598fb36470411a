"""Algorithms are chosen by whole runs of the model, operator by operator and then together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.model_round import RoundError
from relaxc.autotune.records import Purpose
from relaxc.autotune.search import GridSearch
from relaxc.autotune.session import Budget, Session, SessionOptions, open_session
from relaxc.autotune.space import SearchSpace
from relaxc.autotune.tasks import Task
from relaxc.compiler.model_choice import ChosenAlgorithms, ModelChoice
from relaxc.compiler.model_contest import champions
from relaxc.compiler.model_variants import Choices
from relaxc.targets.registry import resolve
from tests.autotune.conftest import FakeMeasurer, toy_task

OLD, NEW, WORST = {"by": 0}, {"by": 1}, {"by": 2}
Seconds = Callable[[Mapping[str, int]], float]
"""Of a run of the model, by the algorithms of those operators that do not go by their default."""


def operator(name: str, calls: int = 1, algorithms: Sequence[Mapping[str, int]] = (OLD, NEW)) -> Task:
    return replace(toy_task(name), calls=calls, space=SearchSpace(algorithms), default=OLD)


@dataclass
class Model:
    """One that is never compiled.

    Attributes:
        seconds: see ``Seconds``; negative for a run that fails.
        seen: every comparison.
    """

    tasks: Sequence[Task]
    seconds: Seconds
    seen: list[list[dict[str, int]]] = field(default_factory=list)

    def compare(self, variants: Sequence[Choices], _processes: int) -> list[Measurement]:
        names = {task.kernel: task.name for task in self.tasks}
        self.seen.append([{names[k]: knobs["by"] for k, knobs in each.items()} for each in variants])
        return [ran(self.seconds(each)) for each in self.seen[-1]]


def ran(seconds: float) -> Measurement:
    return (
        Measurement(Status.OK, (seconds,) * 20)
        if seconds >= 0
        else Measurement(Status.WRONG_RESULT, message="another result")
    )


@dataclass
class Bench:
    """Sessions over one file of records."""

    records: Path

    def session(self, tasks: Sequence[Task]) -> Session:
        options = SessionOptions(self.records, 1, GridSearch(), Budget())
        return open_session(tasks, resolve("native"), FakeMeasurer({}), options)[0]

    def choose(self, model: Model, seconds: float = math.inf) -> tuple[ChosenAlgorithms | None, list[str]]:
        """The outcome, and which operators go by another algorithm from now on."""
        session = self.session(model.tasks)
        outcome = ModelChoice(session, model.compare, seconds).run()
        return outcome, [state.task.name for state in champions(self.session(model.tasks))]

    def note_alone(self, task: Task, purpose: Purpose, gain: float, knobs: Mapping[str, int] = NEW) -> None:
        """Notes that an algorithm was faster than the default when measured alone."""
        session = self.session([task])
        session.note_inside(purpose, session.states[0], [knobs], [ran(1.0), ran(1 / gain)])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "records")


A, B, C = (operator(name, calls) for name, calls in (("a", 3), ("b", 2), ("c", 1)))


def test_what_makes_runs_faster_is_taken_together(bench: Bench) -> None:
    gains = {"a": 0.98, "b": 0.97, "c": 1.02}
    model = Model([A, B, C], lambda by: math.prod(gains[name] for name in by))
    outcome, kept = bench.choose(model)
    assert kept == ["a", "b"]
    assert outcome is not None
    assert (outcome.names, outcome.untuned) == (("a", "b"), 1.0)
    assert outcome.tuned == pytest.approx(0.98 * 0.97)
    assert model.seen[0] == [{}, {"a": 1}, {"b": 1}, {"c": 1}]  # those with most arithmetic first


def test_changes_that_hinder_each_other_are_not_taken_together(bench: Bench) -> None:
    model = Model([A, B], lambda by: {0: 1.0, 1: 0.98 if "a" in by else 0.97, 2: 1.1}[len(by)])
    assert bench.choose(model)[1] == ["b"]


def test_a_change_that_hinders_only_in_company_is_undone(bench: Bench) -> None:
    def seconds(by: Mapping[str, int]) -> float:
        alone = 0.99 ** len(by)
        return alone * (1.03 if {"a", "b"} <= by.keys() else 1.0) * (0.9 if "c" in by else 1.0)

    names = bench.choose(Model([A, B, C], seconds))[1]
    assert len(names) == 2
    assert "c" in names


def test_algorithms_that_were_much_slower_alone_are_not_tried(bench: Bench) -> None:
    bench.note_alone(A, Purpose.TRIAL, 0.9)
    bench.note_alone(B, Purpose.TRIAL, 0.97)
    model = Model([A, B], lambda by: 1.0 - 0.1 * len(by))
    assert bench.choose(model)[1] == ["b"]
    assert all("a" not in each for compared in model.seen for each in compared)


def test_of_several_algorithms_of_an_operator_the_fastest_inside_is_taken(bench: Bench) -> None:
    task = operator("a", algorithms=(OLD, NEW, WORST))
    bench.choose(Model([task], lambda by: {0: 1.0, 1: 0.9, 2: 0.95}[by.get("a", 0)]))
    standing = bench.session([task]).states[0].standing
    assert standing is not None
    assert standing.knobs == NEW


def test_a_champion_alone_that_slows_the_model_down_is_none_any_more(bench: Bench) -> None:
    bench.note_alone(A, Purpose.CONTEST, 1.2)
    assert [state.task.name for state in champions(bench.session([A]))] == ["a"]
    outcome, kept = bench.choose(Model([A], lambda by: 1.0 + 0.1 * len(by)))
    assert (outcome, kept) == (ChosenAlgorithms((), 1.0, 1.0), [])


def test_champions_alone_are_compared_once_even_without_time(bench: Bench) -> None:
    bench.note_alone(A, Purpose.CONTEST, 1.2)
    model = Model([A, B], lambda by: 1.0 - 0.1 * len(by))
    assert bench.choose(model, seconds=0.0)[1] == ["a"]
    assert model.seen == [[{}, {"a": 1}]]


def test_nothing_is_tried_twice(bench: Bench) -> None:
    gains = {"a": 0.98, "b": 1.02}
    tasks = [A, B]
    bench.choose(Model(tasks, lambda by: math.prod(gains[name] for name in by)))
    again = Model(tasks, lambda _by: 1.0)
    assert bench.choose(again) == (None, ["a"])
    assert again.seen == []


def test_a_session_that_was_killed_goes_on_with_what_it_has_measured(bench: Bench) -> None:
    class Killed(Model):
        """Killed while it compares for the second time."""

        def compare(self, variants: Sequence[Choices], processes: int) -> list[Measurement]:
            if self.seen:
                raise KeyboardInterrupt
            return super().compare(variants, processes)

    tasks = [A, B]
    killed, resumed = Killed(tasks, _faster_with_each), Model(tasks, _faster_with_each)
    with pytest.raises(KeyboardInterrupt):
        bench.choose(killed)
    assert bench.choose(resumed)[1] == ["a", "b"]
    assert killed.seen == [[{}, {"a": 1}, {"b": 1}]]
    assert {"a": 1, "b": 1} in resumed.seen[0]


def _faster_with_each(by: Mapping[str, int]) -> float:
    return 0.95 ** len(by)


def test_models_that_fail_are_not_chosen(bench: Bench) -> None:
    model = Model([A, B], lambda by: -1.0 if "a" in by else 1.0 - 0.1 * len(by))
    assert bench.choose(model)[1] == ["b"]


def test_a_model_that_takes_others_along_is_not_taken_for_all_of_them(bench: Bench) -> None:
    class Crashing(Model):
        """Where one change is among the compared, only the first model, which runs alone then, has times."""

        def compare(self, variants: Sequence[Choices], processes: int) -> list[Measurement]:
            found = super().compare(variants, processes)
            if any("a" in each for each in self.seen[-1]):
                return [found[0], *[Measurement(Status.RUN_ERROR, message="SIGSEGV")] * len(found[1:])]
            return found

    model = Crashing([A, B, C], lambda by: 1.0 - 0.1 * len(by))
    outcome, kept = bench.choose(model)
    assert kept == ["b", "c"]
    assert outcome is not None
    assert model.seen[1:4] == [[{}, {"a": 1}], [{}, {"b": 1}], [{}, {"c": 1}]]


def test_a_model_that_cannot_be_run_leaves_all_as_it_was(bench: Bench) -> None:
    bench.note_alone(A, Purpose.CONTEST, 1.2)
    with pytest.raises(RoundError, match="another result"):
        bench.choose(Model([A], lambda _by: -1.0))
    assert [state.task.name for state in champions(bench.session([A]))] == ["a"]


def test_a_line_says_what_was_chosen() -> None:
    assert str(ChosenAlgorithms(("product", "chain"), 0.002, 0.001)) == (
        "inside the model: other algorithms for product, chain; a run takes 2.00 -> 1.00 ms (2.00x)"
    )
    assert str(ChosenAlgorithms((), 0.002, 0.002)) == (
        "inside the model: the default algorithms are best; a run takes 2.00 ms"
    )
