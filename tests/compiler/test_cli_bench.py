"""``relaxc bench`` and the reports behind it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from relaxc.compiler.reports.kernel_profile import RUNTIME, KernelCall, kernel_rows
from relaxc.compiler.reports.latency import Budget, Run, percentile, summarize, time_runs
from relaxc.runtime.signature import KernelSpec
from relaxc.targets.cpu.ceilings import Ceilings, measure_ceilings


def test_latency_and_throughput_are_reported(command: Any, dense: Path, tmp_path: Path) -> None:
    report = tmp_path / "numbers.json"
    done = command(
        "bench", dense, "--shape", "x:2,3", "--repeat", 20, "--streams", 2, "--threads", 1, "--json", report
    )
    assert (done.code, done.err) == (0, "")
    assert "median" in done.out
    numbers = json.loads(report.read_text())
    assert (numbers["runs"], numbers["streams"], numbers["threads"]) == (40, 2, 1)
    latency = numbers["latency_ms"]
    assert (
        0 < latency["minimum"] <= latency["median"] <= latency["p90"] <= latency["p99"] <= latency["maximum"]
    )
    assert numbers["throughput_per_second"] > 0
    assert 0 <= numbers["peak_bytes"] < 100 << 20  # none where pages that this process has given back suffice
    assert "peak memory" in done.out


def test_kernels_are_profiled_and_traced(
    command: Any, dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "relaxc.targets.cpu.ceilings.measure_ceilings", lambda threads: Ceilings(gflops=100.0, gbytes=10.0)
    )
    trace, report = tmp_path / "trace.json", tmp_path / "numbers.json"
    arguments = ["--shape", "x:2,3", "--repeat", "3", "--profile", "--trace", trace, "--json", report]
    done = command("bench", dense, *arguments)
    assert done.code == 0
    assert "100 GFLOP/s (fp32 FMA), 10.0 GB/s" in done.out
    rows = {row["name"]: row for row in json.loads(report.read_text())["kernels"]}
    assert set(rows) == {"matmul", "relu", RUNTIME}
    assert rows["relu"]["template"] == "elementwise"
    assert rows["relu"]["calls"] == 1
    assert rows["relu"]["gflops"] > 0
    assert rows["matmul"]["gflops"] is None  # its operations depend on the batch
    assert rows["matmul"]["gbytes"] > 0
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)
    events = json.loads(trace.read_text())["traceEvents"]
    assert [event["name"] for event in events].count("run") == 3
    assert {event["name"] for event in events if event.get("cat") == "kernel"} == set(rows)
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events if event["ph"] == "X")


def test_a_place_that_cannot_be_written_is_refused_before_the_timing(command: Any, dense: Path) -> None:
    assert "does not exist" in command("bench", dense, "--json", "/no/such/folder/x.json").error


@pytest.mark.parametrize("arguments", [["--repeat", "0"], ["--threads", "0"], ["--streams", "0"]])
def test_wrong_numbers_are_wrong_usage(command: Any, dense: Path, arguments: list[str]) -> None:
    assert command("bench", dense, *arguments).code == 2


# ``relaxc``, which says so when the timing has begun.
SPEAKING = """
import itertools, sys
from relaxc.compiler.cli import main
from relaxc.runtime import Executable

numbers, run = itertools.count(), Executable.run

def announced_run(executable, inputs):
    if next(numbers) == 20:
        print("timing", flush=True)
    return run(executable, inputs)

Executable.run = announced_run
main(sys.argv[1:])
"""


@pytest.mark.parametrize("streams", ["1", "2"])
def test_an_interruption_ends_it_quietly(dense: Path, streams: str) -> None:
    arguments = ["bench", str(dense), "--shape", "x:2,3", "--seconds", "300", "--streams", streams]
    command = [sys.executable, "-c", SPEAKING, *arguments]
    # A test run in the background may have been told to ignore interruptions, and its children with it.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "timing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == 128 + signal.SIGINT


class TestLatency:
    def test_statistics(self) -> None:
        runs = [Run(0, 0, 1_000_000), Run(1, 500_000, 3_500_000), Run(0, 1_000_000, 3_000_000)]
        summary = summarize(runs)
        assert (summary.minimum, summary.median, summary.mean, summary.maximum) == (1.0, 2.0, 2.0, 3.0)
        assert summary.throughput == pytest.approx(3 / 3.5e-3)

    def test_percentiles_lie_between_ranks(self) -> None:
        assert [percentile([1, 2, 3, 5], percent) for percent in (0, 50, 90, 100)] == [
            1,
            2.5,
            pytest.approx(4.4),
            5,
        ]

    def test_streams_run_at_once_and_warm_up_first(self) -> None:
        together = threading.Barrier(3, timeout=60)
        runs = time_runs(together.wait, Budget(warmup=2, repeat=4, seconds=0), streams=3)
        assert sorted(run.stream for run in runs) == [0] * 4 + [1] * 4 + [2] * 4

    def test_a_time_budget_ends_the_runs(self) -> None:
        runs = time_runs(lambda: time.sleep(0.01), Budget(warmup=0, repeat=None, seconds=0.05), streams=1)
        assert 1 <= len(runs) <= 6

    def test_an_error_of_any_stream_is_raised(self) -> None:
        def fail_elsewhere() -> None:
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            time_runs(fail_elsewhere, Budget(warmup=1, repeat=1, seconds=0), streams=2)


class TestKernelRows:
    SPECS = (KernelSpec("conv", "convolution", 1, 2000, 400), KernelSpec("add", "elementwise", 1, None, None))
    RUN = (
        KernelCall("conv", 0, 100, 999),
        KernelCall("add", 100, 150, 100),
        KernelCall("conv", 150, 250, 999),
        KernelCall(RUNTIME, 250, 300, 0),
    )

    def test_rates_shares_and_roofline(self) -> None:
        rows = {row.name: row for row in kernel_rows([self.RUN, self.RUN], self.SPECS, Ceilings(40, 20))}
        conv = rows["conv"]
        assert (conv.calls, conv.microseconds) == (2, 0.2)
        assert conv.share == pytest.approx(2 / 3)
        assert (conv.gflops, conv.gbytes) == (20.0, 4.0)
        assert conv.of_ceiling == pytest.approx(0.5)  # 2000 operations at 40 a nanosecond are 50 ns of 100
        add = rows["add"]
        assert (add.gflops, add.gbytes) == (None, 2.0)
        assert add.of_ceiling == pytest.approx(0.1)
        assert rows[RUNTIME].of_ceiling is None

    def test_the_costliest_comes_first(self) -> None:
        assert kernel_rows([self.RUN], self.SPECS, None)[0].name == "conv"

    def test_without_ceilings_there_is_no_share_of_them(self) -> None:
        assert {row.of_ceiling for row in kernel_rows([self.RUN], self.SPECS, None)} == {None}


def test_ceilings_are_plausible() -> None:
    ceilings = measure_ceilings(1)
    assert 1 < ceilings.gflops < 1000
    assert 0.5 < ceilings.gbytes < 1000
