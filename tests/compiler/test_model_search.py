"""The search inside a model, with a measurer that knows all times."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from relaxc.autotune.measurement import BuiltKernel, Candidate, Knobs, Measurement, RunOptions, Status
from relaxc.autotune.model_round import Contestants, ModelAtHand, RoundError
from relaxc.autotune.records import Purpose, read_records
from relaxc.autotune.search import RandomSearch
from relaxc.autotune.session import Budget, Session, SessionOptions, open_session
from relaxc.autotune.standings import Standing, standings
from relaxc.compiler.model_search import ModelSearch, SearchTimes
from relaxc.targets.registry import CpuTarget, resolve
from tests.autotune.conftest import DEFAULT, FakeMeasurer, toy_task, toy_time

NAMES = ("conv", "small")
ROUNDS_SECONDS = 60.0
NOISE = (1.0, 1.02, 0.98, 1.3, 1.01, 0.99, 1.0, 1.05, 0.97, 1.0)


@pytest.fixture(scope="module")
def native() -> CpuTarget:
    return resolve("native")


class Clock:
    """In the place of ``time``: whenever it is looked at, a thirtieth of the time for rounds has gone by."""

    now = 0.0

    def monotonic(self) -> float:
        """See ``time``."""
        self.now += ROUNDS_SECONDS / 30
        return self.now


@pytest.fixture(autouse=True)
def as_many_rounds_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaxc.compiler.model_search.time", Clock())


def inside_time(knobs: Knobs) -> float:
    """Inside the model as many vectors as possible are best; alone, two are."""
    return 1e-5 * (1.0 + 0.1 * (8 - knobs["vectors"]))


def session(records: Path, target: CpuTarget) -> Session:
    """That has tried a little alone."""
    tasks = [toy_task(name) for name in NAMES]
    options = SessionOptions(records, 1, RandomSearch(), Budget(trials=16), batch=4)
    opened, _ = open_session(tasks, target, FakeMeasurer(dict.fromkeys(NAMES, toy_time)), options)
    opened.run()
    return opened


def standing_of(tuned: Session) -> list[Standing]:
    return [state.standing for state in tuned.states if state.standing is not None]


class FakeBuilder:
    """Puts the knobs in the place of a library."""

    def __init__(self) -> None:
        self.built = 0

    def outcomes(self, candidates: Sequence[Candidate]) -> list[BuiltKernel | Measurement]:
        self.built += len(candidates)
        made = [DEFAULT if each.knobs is None else dict(each.knobs) for each in candidates]
        return [BuiltKernel(json.dumps(knobs).encode(), (), 0.1) for knobs in made]


class FakeRounds:
    """Answers from a function of the knobs; negative times are failures.

    Attributes:
        end_after: so many rounds, after which ``end`` is raised.
    """

    def __init__(
        self,
        time: Callable[[Knobs], float] = inside_time,
        end_after: int = 10**9,
        end: type[BaseException] = RoundError,
    ) -> None:
        self.time, self.end_after, self.end = time, end_after, end
        self.seen: list[Mapping[str, int]] = []

    def __call__(
        self, model: ModelAtHand, contestants: Sequence[Contestants], seconds: float, options: RunOptions
    ) -> list[list[Measurement]]:
        if self.end_after == 0:
            raise self.end("over")
        self.end_after -= 1
        return [[self._one(kernel) for kernel in each.kernels] for each in contestants]

    def _one(self, kernel: BuiltKernel) -> Measurement:
        knobs = json.loads(kernel.library)
        self.seen.append(knobs)
        seconds = self.time(knobs)
        if seconds < 0:
            return Measurement(Status.WRONG_RESULT, message="off")
        return Measurement(Status.OK, tuple(seconds * factor for factor in NOISE))


def search(tuned: Session, rounds: FakeRounds) -> FakeBuilder:
    builder = FakeBuilder()
    times = SearchTimes(rounds=ROUNDS_SECONDS, runs=1.0, contest=1.0, whole_runs=1.0)
    model = ModelAtHand(Path("nowhere.so"), {})
    ModelSearch(tuned, model, RunOptions(1), times, builder=builder, measure=rounds).run()
    return builder


def test_what_is_fastest_inside_the_model_becomes_champion(tmp_path: Path, native: CpuTarget) -> None:
    tuned = session(tmp_path / "records", native)
    search(tuned, FakeRounds())
    assert all((found.knobs or DEFAULT)["vectors"] >= 7 for found in standing_of(tuned))
    written = standings(read_records(tmp_path / "records").records)
    assert [each.knobs for each in written.values()] == [found.knobs for found in standing_of(tuned)]


def test_where_the_default_is_best_inside_all_champions_go(tmp_path: Path, native: CpuTarget) -> None:
    tuned = session(tmp_path / "records", native)
    assert any(state.standing and state.standing.knobs for state in tuned.states)
    search(tuned, FakeRounds(lambda knobs: 1e-5 if knobs == DEFAULT else 1.1e-5))
    assert not any(state.standing and state.standing.knobs for state in tuned.states)


def test_every_kernel_is_built_once(tmp_path: Path, native: CpuTarget) -> None:
    rounds = FakeRounds()
    builder = search(session(tmp_path / "records", native), rounds)
    distinct = {tuple(knobs.values()) for knobs in rounds.seen}
    assert builder.built <= len(NAMES) * len(distinct)


def test_wrong_results_are_never_chosen_and_never_tried_again(tmp_path: Path, native: CpuTarget) -> None:
    def wrong_if_wide(knobs: Knobs) -> float:
        return -1.0 if knobs["vectors"] > 4 else inside_time(knobs)

    tuned, rounds = session(tmp_path / "records", native), FakeRounds(wrong_if_wide)
    search(tuned, rounds)
    wide = [tuple(knobs.values()) for knobs in rounds.seen if knobs["vectors"] > 4]
    assert wide
    assert all(wide.count(knobs) <= len(NAMES) for knobs in wide)
    assert all(state.standing and (state.standing.knobs or DEFAULT)["vectors"] <= 4 for state in tuned.states)


def test_a_champion_that_fails_inside_is_none_any_more(tmp_path: Path, native: CpuTarget) -> None:
    path = tmp_path / "records"
    tuned = session(path, native)
    assert any(found.knobs for found in standing_of(tuned))
    search(tuned, FakeRounds(lambda knobs: 1e-5 if knobs == DEFAULT else -1.0))
    assert not any(found.knobs for found in standing_of(tuned))
    judged = [record for record in read_records(path).records if record.purpose is not Purpose.MODEL_TRIAL]
    assert not any(found.knobs for found in standings(judged).values())
    assert not any(state.inside.get(state.challenger() or -1) == [] for state in tuned.states)


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, native: CpuTarget) -> None:
    path = tmp_path / "records"
    with pytest.raises(KeyboardInterrupt):
        search(session(path, native), FakeRounds(end_after=2, end=KeyboardInterrupt))
    tried = [r for r in read_records(path).records if r.purpose is Purpose.MODEL_TRIAL]
    assert tried
    again = session(path, native)
    assert sum(len(state.inside) for state in again.states) > 0
    before = {state.task.name: set(state.inside) for state in again.states}
    search(again, FakeRounds())
    assert all(set(state.inside) > before[state.task.name] for state in again.states)


def test_where_the_model_cannot_be_run_champions_stay(tmp_path: Path, native: CpuTarget) -> None:
    tuned = session(tmp_path / "records", native)
    before = [state.standing for state in tuned.states]
    with pytest.raises(RoundError):
        search(tuned, FakeRounds(end_after=0))
    assert [state.standing for state in tuned.states] == before


def test_a_quarter_of_the_time_is_left_for_what_follows() -> None:
    times = SearchTimes.within(240.0)
    assert times.rounds + 5 * times.whole_runs < 200


def test_however_little_time_is_left_something_is_measured() -> None:
    assert SearchTimes.within(0.0).runs > 0
    assert SearchTimes.within(0.0).contest > 0
