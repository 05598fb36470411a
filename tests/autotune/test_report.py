"""The page on a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from relaxc.autotune.report import write_report
from relaxc.autotune.search import RandomSearch
from relaxc.autotune.session import Budget, SessionOptions, open_session
from relaxc.targets.registry import CpuTarget
from tests.autotune.conftest import FakeMeasurer, toy_task, toy_time


@pytest.mark.parametrize("line", ["inside the model: other algorithms for product & chain", ""])
def test_it_says_which_algorithms_were_chosen(tmp_path: Path, native: CpuTarget, line: str) -> None:
    pytest.importorskip("jinja2")
    options = SessionOptions(tmp_path / "records", 1, RandomSearch(), Budget(trials=2))
    session, _ = open_session([toy_task()], native, FakeMeasurer({"conv": toy_time}), options)
    session.run()
    write_report(tmp_path / "report.html", session, line)
    page = (tmp_path / "report.html").read_text()
    assert ("<p>Algorithms, inside the model: other algorithms for product &amp; chain.</p>" in page) == bool(
        line
    )
