"""Sessions: where trials go, and that nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from relaxc.autotune.evolutionary_search import EvolutionarySearch
from relaxc.autotune.measurement import Measurement, Measurer, Status
from relaxc.autotune.records import Purpose, read_records
from relaxc.autotune.search import RandomSearch
from relaxc.autotune.session import Budget, Limits, Session, SessionOptions, open_session
from relaxc.autotune.space import SearchSpace
from relaxc.autotune.tasks import Task
from relaxc.targets.registry import CpuTarget
from tests.autotune.conftest import FakeMeasurer, toy_task, toy_time

TIMES = {"conv": toy_time, "small": lambda knobs: 1e-7, "broken": lambda knobs: -1.0}


def session(
    records: Path, target: CpuTarget, measurer: Measurer, tasks: list[Task], trials: int = 64
) -> Session:
    """One that draws at random, four trials at once."""
    options = SessionOptions(records, 1, RandomSearch(), Budget(trials=trials, patience=200), batch=4)
    opened, notices = open_session(tasks, target, measurer, options)
    assert not notices
    return opened


def test_trials_go_where_the_time_goes(tmp_path: Path, native: CpuTarget) -> None:
    tasks = [toy_task("small", calls=2), toy_task("conv")]
    tuned = session(tmp_path / "records", native, FakeMeasurer(TIMES), tasks)
    tuned.run()
    trials = {state.task.name: len(state.gains) for state in tuned.states}
    assert sum(trials.values()) == tuned.trials == 64
    assert trials["conv"] > 5 * trials["small"]
    (row, _) = tuned.rows()
    assert row.state.task.name == "conv"
    assert row.gain > 1.5
    assert row.share == pytest.approx(
        toy_time({"rows": 4, "vectors": 1, "unroll": 0}) / (row.default_seconds + 2e-7)
    )


def test_a_champion_has_stood_a_contest(tmp_path: Path, native: CpuTarget) -> None:
    path = tmp_path / "records"
    session(path, native, FakeMeasurer(TIMES), [toy_task()], trials=32).run()
    contests = [record for record in read_records(path).records if record.purpose is Purpose.CONTEST]
    assert contests
    assert all(len(entry.measurement.seconds) == 30 for record in contests for entry in record.entries)
    assert all(len(record.entries) == 3 for record in contests[1:])


def test_a_session_killed_at_any_point_goes_on_to_the_same_end(tmp_path: Path, native: CpuTarget) -> None:
    tasks = [toy_task(), toy_task("small")]
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    session(undisturbed, native, FakeMeasurer(TIMES), tasks, trials=32).run()
    for allowed in (1, 5, 8, 3):
        with pytest.raises(KeyboardInterrupt):
            session(disturbed, native, FakeMeasurer(TIMES, interrupt_after=allowed), tasks, trials=32).run()
    session(disturbed, native, FakeMeasurer(TIMES), tasks, trials=32).run()
    ends = [
        [(r.kernel, r.purpose, r.candidate) for r in read_records(path).records]
        for path in (undisturbed, disturbed)
    ]
    assert ends[0] == ends[1]


def test_a_task_whose_default_fails_gets_no_trials(tmp_path: Path, native: CpuTarget) -> None:
    tuned = session(tmp_path / "records", native, FakeMeasurer(TIMES), [toy_task("broken")])
    tuned.run()
    assert tuned.trials == 0
    assert "SIGSEGV" in (tuned.states[0].broken or "")
    assert not tuned.rows()


def test_candidates_that_crash_are_counted_and_never_chosen(tmp_path: Path, native: CpuTarget) -> None:
    tuned = session(tmp_path / "records", native, FakeMeasurer(TIMES), [toy_task()], trials=100)
    tuned.run()
    (state,) = tuned.states
    assert state.failures["run_error"] > 10
    assert state.standing is not None
    assert state.standing.knobs is not None
    assert toy_time(state.standing.knobs) > 0


def test_a_session_ends_when_nothing_is_left_to_try(tmp_path: Path, native: CpuTarget) -> None:
    task = toy_task()
    tuned = session(tmp_path / "records", native, FakeMeasurer(TIMES), [task], trials=10_000)
    tuned.run()
    assert tuned.trials == len(task.space) - 1  # the default needs no trial


def test_a_task_without_gains_is_given_up(tmp_path: Path, native: CpuTarget) -> None:
    tasks = [toy_task("small")]
    tuned = session(tmp_path / "records", native, FakeMeasurer(TIMES), tasks, trials=10_000)
    tuned.run()
    assert tuned.trials == 200  # the patience


def test_the_ceiling_is_the_roofline() -> None:
    task = toy_task()
    assert Limits(gflops=100.0, gbytes=1000.0).of_ceiling(task, 1e-5) == pytest.approx(1.0)
    assert Limits(gflops=1e9, gbytes=1.0).of_ceiling(task, 1e-4) == pytest.approx(0.1)


def test_records_of_an_earlier_version_of_a_template_teach_nothing(tmp_path: Path, native: CpuTarget) -> None:
    """Its schedules had other knobs and its workloads other numbers: no cost model could learn from both."""
    pytest.importorskip("xgboost")
    path, earlier = tmp_path / "records", toy_task("small")
    points = [{"rows": rows, "vectors": 1, "unroll": 0, "more": 0} for rows in range(1, 17)]
    earlier = replace(
        earlier,
        kernel=replace(earlier.kernel, version=0),
        workload={"height": 7, "width": 56},
        space=SearchSpace(points),
        default=points[3],
    )
    session(path, native, FakeMeasurer(TIMES), [earlier], trials=8).run()
    options = SessionOptions(path, 1, EvolutionarySearch(), Budget(trials=16), batch=4)
    opened, _ = open_session([toy_task(), toy_task("small")], native, FakeMeasurer(TIMES), options)
    opened.run()
    assert opened.trials == 16


def test_runs_of_the_model_do_not_tell_the_time_of_a_call(tmp_path: Path, native: CpuTarget) -> None:
    path = tmp_path / "records"
    tuned = session(path, native, FakeMeasurer(TIMES), [toy_task()], trials=32)
    tuned.run()
    (state,), (before,) = tuned.states, tuned.rows()
    half, whole, twice = (Measurement(Status.OK, (seconds,) * 10) for seconds in (0.5, 1.0, 2.0))
    assert state.standing is not None
    champion = [state.standing.knobs or {}]
    for _ in range(len(state.records)):
        tuned.note_inside(Purpose.MODEL, state, champion, [whole, half])
    tuned.note_inside(Purpose.MODEL, state, champion, [whole, twice])
    (after,) = tuned.rows()
    assert after.default_seconds == before.default_seconds
    assert after.gain == 1.0
    assert state.standing is not None
    assert state.standing.seconds == pytest.approx(before.default_seconds)
