"""A whole session over RPC, disturbed as much as a session can be, next to one that was left in peace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from relaxc.autotune.records import Purpose, read_records
from relaxc.autotune.rpc.tracker import Tracker
from relaxc.runtime.processor import allowed_cpus


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One convolution."""
    weight = np.random.default_rng(0).standard_normal((32, 16, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 14, 14])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 14, 14])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path_factory.mktemp("model") / "convolution.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class CommandLine:
    """Runs ``relaxc`` in processes that can be killed."""

    def __init__(self, secret: str) -> None:
        self._environment = os.environ | {"RELAXC_RPC_SECRET": secret, "TVM_NUM_THREADS": "1"}
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "relaxc", *arguments]
        process = subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status and what it said on standard error."""
        process = self.start(*arguments)
        _, errors = process.communicate(timeout=300)
        return process.returncode, errors

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@pytest.fixture
def relaxc() -> Iterator[CommandLine]:
    """Knows the secret."""
    # The same as in conftest.py, which tests cannot import.
    command_line = CommandLine("known to the tests and nobody else, it is hoped")
    yield command_line
    command_line.end()


def test_a_disturbed_session_finds_as_much_as_one_in_peace(
    relaxc: CommandLine, tracker: Tracker, model: Path, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    servers = [_server(relaxc, tracker, cpu) for cpu in (allowed_cpus()[0], allowed_cpus()[-1])]
    wait_until(lambda: len(tracker.registrations()) == 2)

    def tune(records: Path, trials: int) -> tuple[str, ...]:
        place = ("--rpc-tracker", str(tracker.address), "--rpc-key", "board", "--search", "random")
        search = ("--trials", str(trials), "--batch", "3", "--no-winograd")
        return ("tune", str(model), "-o", str(records), *search, *place)

    disturbed, peaceful = tmp_path / "disturbed", tmp_path / "peaceful"
    tuner = relaxc.start(*tune(disturbed, 1000))
    wait_until(lambda: disturbed.exists() and _valid_trials(disturbed) > 0, 120)
    servers[0].kill()
    wait_until(lambda: _valid_trials(disturbed) >= 6, 120)
    tuner.kill()
    tuner.wait()
    left_behind = _valid_trials(disturbed)
    trials = left_behind + 3
    for records in (disturbed, peaceful):
        status, errors = relaxc.run(*tune(records, trials))
        assert status == 0, errors
        assert (f"going on after {left_behind} trials" in errors) == (records == disturbed)
    assert _valid_trials(disturbed) == _valid_trials(peaceful) == trials


def test_without_the_secret_nothing_is_measured(tracker: Tracker, model: Path, tmp_path: Path) -> None:
    intruder = CommandLine("a secret that is long enough, but not the right one")
    place = ("--rpc-tracker", str(tracker.address), "--rpc-key", "board")
    for arguments in (
        ("rpc", "query", "--tracker", str(tracker.address)),
        ("rpc", "server", "--tracker", str(tracker.address), "--key", "board"),
        ("tune", str(model), "-o", str(tmp_path / "records"), *place),
    ):
        status, errors = intruder.run(*arguments)
        assert status == 1
        assert "its secret is not ours" in errors
    assert not tracker.registrations()
    assert not (tmp_path / "records").exists()


def test_the_commands_end_when_they_are_asked_to(
    relaxc: CommandLine, tracker: Tracker, wait_until: Callable[..., None]
) -> None:
    server = _server(relaxc, tracker, allowed_cpus()[0])
    wait_until(lambda: tracker.registrations() and _catches(server.pid, signal.SIGTERM))
    assert relaxc.run("rpc", "query", "--tracker", str(tracker.address)) == (0, "")
    server.send_signal(signal.SIGINT)  # Ctrl-C
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "for this machine only; whoever has the secret runs code here as" in errors
    assert "Traceback" not in errors


def _server(relaxc: CommandLine, tracker: Tracker, cpu: int) -> subprocess.Popen[str]:
    return relaxc.start(
        "rpc", "server", "--key", "board", "--tracker", str(tracker.address), "--cpus", str(cpu)
    )


def _catches(process: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for a signal (proc_pid_status(5), SigCgt)."""
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def _valid_trials(records: Path) -> int:
    """Candidates that were measured and gave the right result, each with the default beside it."""
    return sum(
        record.purpose is Purpose.TRIAL and all(entry.measurement.ok for entry in record.entries)
        for record in read_records(records).records
    )
