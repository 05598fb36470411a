"""Measurements on one machine keep out of each other's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from relaxc.autotune.cpu_claims import claimed_cpus
from relaxc.runtime.processor import allowed_cpus

HOLDER = """
import sys, time
from pathlib import Path
from relaxc.autotune.cpu_claims import claimed_cpus
with claimed_cpus(1, Path(sys.argv[1])) as cpus:
    print(*cpus, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relaxc.autotune.cpu_claims.allowed_cpus", lambda: [4, 7])


@pytest.mark.usefixtures("two_cpus")
def test_claims_do_not_overlap(tmp_path: Path) -> None:
    with claimed_cpus(1, tmp_path) as one, claimed_cpus(1, tmp_path) as other:
        assert (one, other) == ([7], [4])
    with claimed_cpus(3, tmp_path) as everything:
        assert everything == [7, 4]


@pytest.mark.usefixtures("two_cpus")
def test_claims_wait_for_each_other(tmp_path: Path) -> None:
    """Claims of different sizes at once: none ever holds what another has, and none waits for ever."""
    held: set[int] = set()
    turns: list[int] = []

    def measure(count: int) -> None:
        for _ in range(5):
            with claimed_cpus(count, tmp_path) as cpus:
                assert held.isdisjoint(cpus)
                held.update(cpus)
                time.sleep(0.002)
                held.difference_update(cpus)
                turns.append(count)

    threads = [threading.Thread(target=measure, args=(count,)) for count in (1, 2, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(turns) == [1] * 10 + [2] * 10


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert int(holder.stdout.readline()) == allowed_cpus()[-1]
        os.kill(holder.pid, signal.SIGKILL)
    with claimed_cpus(len(allowed_cpus()), tmp_path) as cpus:
        assert sorted(cpus) == allowed_cpus()
