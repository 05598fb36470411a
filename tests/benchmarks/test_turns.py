"""Peers that take turns in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from benchmarks.turns import take_turns


def _setup(path: str) -> Callable[[], object]:
    return partial(_note_process, path)


def _note_process(path: str) -> None:
    with open(path, "a") as log:
        log.write(f"{os.getpid()}\n")


def test_every_peer_has_its_own_process_and_all_its_turns(tmp_path: os.PathLike[str]) -> None:
    log = os.path.join(tmp_path, "log")
    records = take_turns({"a": (_setup, (log,)), "b": (_setup, (log,))}, rounds=2, calls=4, turn_seconds=60)
    assert {name: len(record.seconds) for name, record in records.items()} == {"a": 8, "b": 8}
    with open(log) as lines:
        processes = [int(line) for line in lines]
    assert len(set(processes)) == 2
    assert os.getpid() not in processes
    turns = [processes[i] for i in range(len(processes)) if i == 0 or processes[i] != processes[i - 1]]
    assert len(turns) == 4, "the peers alternate"


def _failing_setup() -> Callable[[], object]:
    raise ValueError("no such\nmodel")


def test_the_others_go_on_without_a_peer_that_fails(tmp_path: os.PathLike[str]) -> None:
    log = os.path.join(tmp_path, "log")
    records = take_turns(
        {"bad": (_failing_setup, ()), "good": (_setup, (log,))}, rounds=1, calls=2, turn_seconds=60
    )
    assert records["bad"].failure == "ValueError: no such model"
    assert records["bad"].seconds == []
    assert len(records["good"].seconds) == 2


def _allocating_setup() -> Callable[[], object]:
    held = bytearray(os.urandom(64 << 20))
    return lambda: held


def test_the_memory_of_a_peer_is_what_it_took_beyond_the_interpreter() -> None:
    (record,) = take_turns({"a": (_allocating_setup, ())}, rounds=1, calls=1).values()
    assert 64 << 20 <= record.peak_bytes < 200 << 20


def _slow_setup() -> Callable[[], object]:
    return partial(time.sleep, 0.05)


def test_a_turn_ends_when_its_time_is_over() -> None:
    (record,) = take_turns({"a": (_slow_setup, ())}, rounds=1, calls=100, turn_seconds=0.3).values()
    assert 1 <= len(record.seconds) < 10
