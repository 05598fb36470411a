"""The file of measurements: append-only, a JSON object a line.

Every line is written whole, by one system call, under a lock. A process that is killed meanwhile leaves at
worst a torn last line, which readers report and pass over and the next writer closes.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import index
from pathlib import Path
from typing import Any

from ..runtime.atomic_file import atomic_file
from ..runtime.errors import RelaxcError
from ..targets.cpu.kernel_identity import KernelIdentity
from .measurement import Knobs, Measurement, Status

_DIGITS = 4


class RecordsError(RelaxcError):
    """A file of records cannot be read or written."""


class Purpose(StrEnum):
    """Why a group was measured."""

    BASELINE = "baseline"
    """The default alone, to learn what the kernel costs."""
    TRIAL = "trial"
    """The default and a candidate that the search proposed."""
    CONTEST = "contest"
    """With more rounds: the default, the champion if there is one, and the challenger, in this order."""
    MODEL_TRIAL = "model_trial"
    """The default and candidates that the search inside the model proposed."""
    MODEL = "model"
    """With more rounds: the default, the champion if there is one, and challengers, inside the model. Or the
    default and the champion, and the seconds of whole runs."""


@dataclass(frozen=True)
class TargetKey:
    """For what code was generated, and how many threads ran it."""

    mcpu: str
    threads: int


@dataclass(frozen=True)
class Entry:
    """One candidate of a record: its knobs (the default's are spelt out, too) and what was measured."""

    knobs: Knobs
    measurement: Measurement


@dataclass(frozen=True)
class Record:
    """Schedules of one kernel that were measured together, the default first.

    Attributes:
        kernel, target: the key.
        name: the kernel's name in the model.
        workload: what it computes, in the numbers of its template, and the cost of a call.
        purpose: why.
        entries: the candidates.
        time: when, in ISO 8601 (UTC).
        predicted: the gain over the default that the search expected of the candidate, if it did.
    """

    kernel: KernelIdentity
    target: TargetKey
    name: str
    workload: Mapping[str, int]
    purpose: Purpose
    entries: tuple[Entry, ...]
    time: str
    predicted: float | None = None

    @property
    def candidate(self) -> Entry:
        """What the record is about: the last entry."""
        return self.entries[-1]

    def to_line(self) -> str:
        """The record as one line of JSON, without the line's end."""
        device = next((entry.measurement.device for entry in self.entries if entry.measurement.device), "")
        return json.dumps(
            {
                "kernel": vars(self.kernel),
                "target": vars(self.target),
                "name": self.name,
                "workload": dict(self.workload),
                "purpose": self.purpose.value,
                "time": self.time,
                "device": device,
                **({} if self.predicted is None else {"predicted": round(self.predicted, 4)}),
                "entries": [_entry_to_json(entry) for entry in self.entries],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The inverse of ``to_line``. Raises ValueError, which says why, on other text."""
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError("no whole record (a writer may have been killed)") from error
        try:
            return _record_from_json(fields)
        except KeyError as error:
            raise ValueError(f"no record: {error} is missing") from error
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"no record: {error}") from error


def _record_from_json(fields: dict[str, Any]) -> Record:
    kernel, target, predicted = fields["kernel"], fields["target"], fields.get("predicted")
    entries = tuple(_entry_from_json(entry, str(fields["device"])) for entry in fields["entries"])
    if not entries:
        raise ValueError("it has no entries")
    return Record(
        KernelIdentity(str(kernel["template"]), index(kernel["version"]), str(kernel["structure"])),
        TargetKey(str(target["mcpu"]), index(target["threads"])),
        str(fields["name"]),
        _numbers(fields["workload"], least=-(2**63)),
        Purpose(fields["purpose"]),
        entries,
        str(fields["time"]),
        None if predicted is None else float(predicted),
    )


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    found = entry.measurement
    fields: dict[str, Any] = {"knobs": dict(entry.knobs), "status": found.status.value}
    if found.ok:
        fields["seconds"] = [float(f"{seconds:.{_DIGITS}g}") for seconds in found.seconds]
    else:
        fields["message"] = found.message
    return fields | {"build_seconds": round(found.build_seconds, 3)}


def _entry_from_json(fields: dict[str, Any], device: str) -> Entry:
    status, seconds = Status(fields["status"]), tuple(map(float, fields.get("seconds", ())))
    if (status is Status.OK and not seconds) or not all(0 < second < math.inf for second in seconds):
        raise ValueError(f"{list(seconds)} are no times")
    message, build_seconds = str(fields.get("message", "")), float(fields["build_seconds"])
    measurement = Measurement(status, seconds, message, device, build_seconds)
    return Entry(_numbers(fields["knobs"], least=0), measurement)


def _numbers(fields: Mapping[str, Any], least: int) -> dict[str, int]:
    """Names with integers, which fit into NumPy's and are not below ``least``."""
    numbers = {name: index(value) for name, value in fields.items()}
    wrong = [f"{name}={value}" for name, value in numbers.items() if not least <= value < 2**63]
    if wrong:
        raise ValueError(f"{wrong[0]} is out of range")
    return numbers


@dataclass(frozen=True)
class ReadRecords:
    """What a file holds.

    Attributes:
        records: in the order in which they were written.
        notices: a line on every line that is none.
    """

    records: tuple[Record, ...] = ()
    notices: tuple[str, ...] = ()


def read_records(path: Path) -> ReadRecords:
    """Reads a file. Raises RecordsError if that is impossible, or nothing in it is a record."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordsError(f"cannot read the records {path}: {error.strerror}; check the path") from error
    records, notices = [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append(Record.from_line(line.decode(errors="replace")))
        except ValueError as error:
            notices.append(f"{path}:{number}: {error}; the line is ignored, delete it or tune again")
    if notices and not records and len(notices) > 1:
        raise RecordsError(f"{path} holds no tuning records; give a file that relaxc tune wrote")
    return ReadRecords(tuple(records), tuple(notices))


def append_record(path: Path, record: Record) -> None:
    """Adds a record to the file, which is created if need be. Raises RecordsError if that fails."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise RecordsError(f"cannot write the records {path}: {error.strerror}; check the folder") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        line = ("\n" * _ends_torn(descriptor) + record.to_line() + "\n").encode()
        if os.write(descriptor, line) != len(line):
            raise RecordsError(f"cannot write the records {path}: the disk is full; make room")
    except OSError as error:
        raise RecordsError(f"cannot write the records {path}: {error.strerror}; make room") from error
    finally:
        os.close(descriptor)


def _ends_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Replaces the file at ``path``. Raises ArtifactError if it cannot be written."""
    with atomic_file(path) as stream:
        stream.writelines(f"{record.to_line()}\n".encode() for record in records)


def merged(files: Iterable[ReadRecords]) -> Iterator[Record]:
    """All records, each once, in the order of their times."""
    lines = {record.to_line(): record for file in files for record in file.records}
    yield from sorted(lines.values(), key=lambda record: record.time)
