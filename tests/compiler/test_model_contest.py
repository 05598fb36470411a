"""Champions stay only if whole runs of the model are faster with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relaxc.autotune.measurement import Measurement, RunOptions, Status
from relaxc.autotune.model_round import RoundError
from relaxc.autotune.records import Purpose
from relaxc.autotune.search import RandomSearch
from relaxc.autotune.session import Budget, Session, SessionOptions, open_session
from relaxc.compiler import model_contest
from relaxc.compiler.model_contest import ModelContest, champions, hold_model_contest
from relaxc.targets.registry import CpuTarget, resolve
from tests.autotune.conftest import DEFAULT, FakeMeasurer, toy_task, toy_time

GAINS = {"large": 1.3, "small": 1.01}


@pytest.fixture(scope="module")
def native() -> CpuTarget:
    return resolve("native")


@pytest.fixture
def tuned(tmp_path: Path, native: CpuTarget) -> Session:
    """Two champions: one of a large gain, one of a small."""
    tasks = [toy_task(name) for name in GAINS]
    options = SessionOptions(tmp_path / "records", 1, RandomSearch(), Budget(trials=0))
    session, _ = open_session(tasks, native, FakeMeasurer(dict.fromkeys(GAINS, toy_time)), options)
    session.run()
    for state, gain in zip(session.states, GAINS.values(), strict=True):
        session.note_inside(Purpose.MODEL, state, [{**DEFAULT, "rows": 8}], [ran(1.0), ran(1 / gain)])
    return session


def ran(seconds: float) -> Measurement:
    return Measurement(Status.OK, (seconds,) * 20)


A_SECOND = ran(1.0)


def hold(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    *tuned: Measurement,
    default: Measurement = A_SECOND,
) -> ModelContest | None:
    """A contest in which whole runs with the default take a second, and with champions what is given."""
    answers = iter(tuned)
    monkeypatch.setattr(model_contest, "built_with", lambda *_: None)
    monkeypatch.setattr(model_contest, "whole_runs", lambda *_: [default, next(answers)])
    artifact: Any = None
    return hold_model_contest(session, artifact, artifact, 1.0, RunOptions(1))


def names(session: Session) -> list[str]:
    return [state.task.name for state in champions(session)]


def test_faster_runs_confirm_all(tuned: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold(tuned, monkeypatch, ran(0.8)) == ModelContest(2, 0, 1.0, 0.8)
    assert names(tuned) == ["large", "small"]


def test_small_gains_go_first(tuned: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold(tuned, monkeypatch, ran(1.25), ran(0.8)) == ModelContest(1, 1, 1.0, 0.8)
    assert names(tuned) == ["large"]


def test_then_all(tuned: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hold(tuned, monkeypatch, ran(1.25), ran(1.25)) == ModelContest(0, 2, 1.0, 1.0)
    assert names(tuned) == []


def test_a_model_that_crashes_or_computes_something_else_is_not_faster(
    tuned: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, crashed = Measurement(Status.WRONG_RESULT), Measurement(Status.RUN_ERROR)
    assert hold(tuned, monkeypatch, wrong, crashed) == ModelContest(0, 2, 1.0, 1.0)


def test_without_champions_there_is_no_contest(tuned: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(tuned, monkeypatch, ran(1.25), ran(1.25))
    assert hold(tuned, monkeypatch) is None


def test_where_the_model_cannot_be_run_champions_stay(
    tuned: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed = Measurement(Status.RUN_ERROR, message="model: it ended")
    with pytest.raises(RoundError, match="it ended"):
        hold(tuned, monkeypatch, crashed, default=crashed)
    assert names(tuned) == ["large", "small"]
