"""Files of records outlive whatever happens to those who write them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from relaxc.autotune.measurement import Measurement, Status
from relaxc.autotune.pruning import kernel_summaries, pruned
from relaxc.autotune.records import (
    Entry,
    Purpose,
    ReadRecords,
    Record,
    RecordsError,
    TargetKey,
    append_record,
    merged,
    read_records,
    write_records,
)
from relaxc.targets.cpu.kernel_identity import KernelIdentity
from relaxc.targets.cpu.templates import TEMPLATES

KEY = TargetKey("znver5", 2)
VERSION = TEMPLATES[0].version


def record(
    purpose: Purpose = Purpose.TRIAL,
    rows: int = 8,
    seconds: float = 1e-6,
    time: str = "2026-01-01T00:00:00+00:00",
    version: int = VERSION,
) -> Record:
    """A schedule of ``rows`` rows beside the default, which takes 2 us."""
    default = Entry({"rows": 4}, Measurement(Status.OK, (2e-6,) * 9))
    candidate = Entry({"rows": rows}, Measurement(Status.OK, (seconds,) * 9))
    kernel = KernelIdentity(TEMPLATES[0].name, version, "00ff00ff00ff00ff")
    return Record(kernel, KEY, "fused_conv2d", {"width": 7}, purpose, (default, candidate), time)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "records"
    failed = Entry({"rows": 30}, Measurement(Status.TIMEOUT, message="run: took longer than 20 s"))
    lines = [record(), Record(*vars(record()).values())]
    lines[1] = Record(**{**vars(record()), "entries": (lines[0].entries[0], failed), "predicted": 1.25})
    for line in lines:
        append_record(path, line)
    assert read_records(path) == ReadRecords(tuple(lines))


def test_a_torn_last_line_is_reported_and_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "records"
    append_record(path, record(rows=8))
    append_record(path, record(rows=9))
    path.write_bytes(path.read_bytes()[:-40])  # kill -9 in the middle of a write
    read = read_records(path)
    assert [line.candidate.knobs["rows"] for line in read.records] == [8]
    assert len(read.notices) == 1
    assert f"{path}:2" in read.notices[0]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"rows":8', '"rows":"eight"', "no record: 'str' object cannot be interpreted as an integer"),
        ('"rows":8', '"rows":-8', "no record: rows=-8 is out of range"),
        ('"seconds":[1e-06', '"seconds":[0', "are no times"),
        ('"version":', '"vision":', "no record: 'version' is missing"),
        ('"purpose":"trial"', '"purpose":"trail"', "no record: 'trail' is not a valid Purpose"),
        ('"entries":[', '"entries":[],"others":[', "no record: it has no entries"),
        ('"entries":[', '"entries":[[],', "no record: list indices must be integers"),
        (',"entries"', "", "no whole record"),
    ],
)
def test_a_line_edited_wrongly_is_reported_and_passed_over(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    path = tmp_path / "records"
    edited = record().to_line().replace(old, new)
    assert edited != record().to_line()
    path.write_text(f"{edited}\n{record(rows=9).to_line()}\n")
    read = read_records(path)
    assert read.records == (record(rows=9),)
    (notice,) = read.notices
    assert notice.startswith(f"{path}:1: ")
    assert reason in notice


def test_writing_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "records"
    append_record(path, record(rows=8))
    path.write_bytes(path.read_bytes() + b'{"kernel":{"templ')
    append_record(path, record(rows=9))
    read = read_records(path)
    assert [line.candidate.knobs["rows"] for line in read.records] == [8, 9]
    assert len(read.notices) == 1


def _append_many(path: Path, rows: int) -> None:
    for _ in range(50):
        append_record(path, record(rows=rows))


def test_several_tuners_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "records"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, rows)) for rows in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    read = read_records(path)
    assert len(read.records) == 150
    assert not read.notices


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("one\ntwo\nthree\n")
    with pytest.raises(RecordsError, match="no tuning records"):
        read_records(path)
    with pytest.raises(RecordsError, match="cannot read"):
        read_records(tmp_path / "absent")
    with pytest.raises(RecordsError, match="cannot write"):
        append_record(tmp_path / "absent" / "records", record())


def test_merging_keeps_each_record_once_in_the_order_of_time() -> None:
    early, late = record(time="2026-01-01"), record(time="2026-01-02")
    assert list(merged([ReadRecords((late, early)), ReadRecords((late,))])) == [early, late]


def test_pruning_keeps_contests_and_the_best_trials_of_current_versions(tmp_path: Path) -> None:
    trials = [record(rows=rows, seconds=rows * 1e-7) for rows in (9, 1, 5)]
    contest, old = record(Purpose.CONTEST), record(version=VERSION - 1)
    assert pruned([*trials, contest, old], keep=1) == [trials[1], contest]
    write_records(tmp_path / "records", [contest])
    assert read_records(tmp_path / "records").records == (contest,)


def test_a_summary_says_what_is_known_of_a_kernel() -> None:
    read = ReadRecords((record(), record(Purpose.CONTEST, rows=9, seconds=1e-6)))
    (summary,) = kernel_summaries([read])
    assert summary.knobs == {"rows": 9}
    assert summary.gain == pytest.approx(2.0)
    assert summary.trials == 1
    assert not list(kernel_summaries([read], mcpu="another"))
    assert not list(kernel_summaries([read], template="another"))
