"""Running cases in processes of their own kind, which may crash or hang without taking the rest along."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Generic, TypeVar

from .outcome import Outcome, failure

# Cases travel to the workers by being there when they are forked.
_CONTEXT = multiprocessing.get_context("fork")

# On a busy machine, seconds of the clock say little: the limit is for processor time, and for so many times
# as much of the clock's, because who waits for a lock takes no processor time at all.
_PATIENCE = 10

# Address space of a worker: enough for any case, little enough that a runaway one leaves the machine alone.
_MEMORY_LIMIT = 8 << 30

Case = TypeVar("Case")


@dataclass
class _Worker:
    """A process that runs one case after the other.

    Attributes:
        case: the index of the case that it is at, None when idle.
        deadline: when to look whether that case's time is over.
        begun: when it was given the case, on the clock, and its processor time then.
        cases_begun: how many it has been given.
    """

    process: ForkProcess
    connection: Connection
    case: int | None = None
    deadline: float = 0.0
    begun: tuple[float, float] = (0.0, 0.0)
    cases_begun: int = 0

    def give(self, case: int, limit_s: float) -> None:
        now = time.monotonic()
        self.case, self.deadline = case, now + limit_s
        self.begun = (now, _processor_seconds(self.process.pid))
        self.cases_begun += 1
        self.connection.send(case)

    def seconds_left(self, limit_s: float) -> float:
        """How long it may still take, by its processor time and by the clock."""
        used = _processor_seconds(self.process.pid) - self.begun[1]
        return min(limit_s - used, self.begun[0] + _PATIENCE * limit_s - time.monotonic())

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


@dataclass
class _Pool(Generic[Case]):
    """Workers, and the cases that are still to be run."""

    run: Callable[[Case], Outcome]
    cases: Sequence[Case]
    limit_s: float
    memory_limit: int
    waiting: deque[int]
    workers: list[_Worker] = field(default_factory=list)

    def start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(theirs, self), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))

    def restart(self, worker: _Worker) -> None:
        worker.stop()
        self.workers.remove(worker)
        self.start()

    def finished(self) -> Iterator[tuple[int, Outcome]]:
        """Outcomes that came since the last call, after waiting for one for a while."""
        busy = [worker for worker in self.workers if worker.case is not None]
        patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        ready = wait([worker.connection for worker in busy], patience)
        for worker in busy:
            assert worker.case is not None
            case = worker.case
            outcome = self._outcome(worker, worker.connection in ready)
            if outcome is not None:
                yield case, outcome

    def _outcome(self, worker: _Worker, ready: bool) -> Outcome | None:
        """The outcome of the worker's case, or None where there is none yet."""
        if not ready:
            if time.monotonic() < worker.deadline:
                return None
            if (left := worker.seconds_left(self.limit_s)) > 0:
                worker.deadline = time.monotonic() + max(left, 0.1)
                return None
            self.restart(worker)
            return failure("hang", f"not done after {self.limit_s:g} s")
        try:
            outcome: Outcome = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._after_crash(worker)
        worker.case = None
        return outcome

    def _after_crash(self, worker: _Worker) -> Outcome | None:
        worker.process.join()
        case, signal_ = worker.case, -(worker.process.exitcode or 0)
        self.restart(worker)
        if case is not None and worker.cases_begun > 1:
            # An earlier case may have left broken memory behind: only a fresh process tells.
            self.waiting.appendleft(case)
            self.workers[-1].give(self.waiting.popleft(), self.limit_s)
            return None
        name = signal.Signals(signal_).name if signal_ > 0 else f"exit code {-signal_}"
        return failure("crash", f"the process ended with {name}")


def run_isolated(
    run: Callable[[Case], Outcome],
    cases: Sequence[Case],
    jobs: int,
    limit_s: float,
    report: Callable[[int, Case, Outcome], None] = lambda _done, _case, _outcome: None,
    memory_limit: int = _MEMORY_LIMIT,
) -> list[Outcome]:
    """Runs all cases in ``jobs`` processes at a time.

    Args:
        run: runs one case and says what became of it, with one thread.
        cases: what to run.
        jobs: how many processes.
        limit_s: seconds of processor time for one case, after which its process is killed.
        report: is told how many cases are done, the latest of them, and its outcome.
        memory_limit: bytes of address space for each process.

    Returns:
        The outcomes, in the order of the cases.
    """
    outcomes: dict[int, Outcome] = {}
    pool = _Pool(run, cases, limit_s, memory_limit, deque(range(len(cases))))
    try:
        for _ in range(min(jobs, len(cases))):
            pool.start()
        while len(outcomes) < len(cases):
            for worker in pool.workers:
                if worker.case is None and pool.waiting:
                    worker.give(pool.waiting.popleft(), limit_s)
            for case, outcome in pool.finished():
                outcomes[case] = outcome
                report(len(outcomes), cases[case], outcome)
    finally:
        for worker in pool.workers:
            worker.stop()
    return [outcomes[index] for index in range(len(cases))]


def _processor_seconds(pid: int | None) -> float:
    """What a process and the children it has waited for have used (proc_pid_stat(5), fields 14 to 17)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _serve(connection: Connection, pool: _Pool[Case]) -> None:
    _settle_in(pool.memory_limit)
    while True:
        try:
            index: int = connection.recv()
        except EOFError:
            return
        try:
            connection.send(pool.run(pool.cases[index]))
        except MemoryError:
            connection.send(
                failure("out of memory", f"more than {pool.memory_limit >> 30} GB were asked for")
            )


def _settle_in(memory_limit: int) -> None:
    """One thread, bounded memory, and silence: what compilers print while they fail is in the outcome."""
    os.environ |= {"TVM_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
