"""Peers that take turns in processes of their own."""

from __future__ import annotations

import os
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
    times = take_turns({"a": (_setup, (log,)), "b": (_setup, (log,))}, rounds=2, calls=4)
    assert {name: len(values) for name, values in times.items()} == {"a": 8, "b": 8}
    with open(log) as lines:
        processes = [int(line) for line in lines]
    assert len(set(processes)) == 2
    assert os.getpid() not in processes
    turns = [processes[i] for i in range(len(processes)) if i == 0 or processes[i] != processes[i - 1]]
    assert len(turns) == 4, "the peers alternate"
