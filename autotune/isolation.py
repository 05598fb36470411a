"""Calls in processes of their own, which may crash, hang or be killed.

The processes are forked from a server that has imported the compiler and done nothing else, so that each
starts in milliseconds and finds memory in the same state.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_PRELOADED = (
    "relaxc.autotune.build_kernel",
    "relaxc.autotune.run_kernels",
    "relaxc.frontends.onnx",
    "relaxc.passes.pipeline",
)
# A call that outlives whoever waits for it (killed with -9, say) ends itself so long after its limit.
_GRACE_SECONDS = 5


class FailureKind(StrEnum):
    """Why a call gave no result."""

    EXCEPTION = "exception"
    CRASH = "crash"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Failure:
    """A call without a result, and one line on why."""

    kind: FailureKind
    message: str


@dataclass
class _Running(Generic[T]):
    """A call on its way."""

    position: int
    process: ForkServerProcess
    connection: Connection
    deadline: float
    folder: str

    def outcome(self, limit: float) -> T | Failure:
        """The result, once the connection can be read or the deadline is over."""
        try:
            if self.connection.poll():
                succeeded, value = self.connection.recv()
                return value if succeeded else Failure(FailureKind.EXCEPTION, value)
        except (EOFError, ConnectionError):
            self.process.join()
            return Failure(FailureKind.CRASH, f"the process ended with {_cause(self.process.exitcode)}")
        return Failure(FailureKind.TIMEOUT, f"took longer than {limit:g} s")

    def end(self) -> None:
        """Leaves neither a process nor files behind."""
        self.process.kill()
        self.process.join()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class IsolatedCalls(Generic[T]):
    """Calls of one function.

    Attributes:
        function: a module's function, whose arguments and result can be pickled.
        limit: seconds for one call.
        at_once: how many run at the same time.
    """

    function: Callable[..., T]
    limit: float
    at_once: int = 1
    _running: list[_Running[T]] = field(default_factory=list)

    def __call__(self, arguments: Sequence[tuple[Any, ...]]) -> list[T | Failure]:
        """Calls the function with each of ``arguments``; the results in the same order."""
        results: dict[int, T | Failure] = {}
        waiting = list(enumerate(arguments))
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self.at_once:
                    self._running.append(self._start(*waiting.pop(0)))
                results |= dict(self._finished())
        finally:
            for running in self._running:
                running.end()
            self._running.clear()
        return [results[position] for position in range(len(arguments))]

    def _start(self, position: int, arguments: tuple[Any, ...]) -> _Running[T]:
        context = _fork_server()
        receiving, sending = context.Pipe(duplex=False)
        folder = tempfile.mkdtemp(prefix="relaxc-")
        process = context.Process(
            target=_serve, args=(sending, self.function, arguments, self.limit, folder), daemon=True
        )
        with _without_main_module():
            process.start()
        sending.close()
        return _Running(position, process, receiving, time.monotonic() + self.limit, folder)

    def _finished(self) -> Iterator[tuple[int, T | Failure]]:
        """Waits until at least one call has ended, or its time is over."""
        patience = min(running.deadline for running in self._running) - time.monotonic()
        ready = wait([running.connection for running in self._running], max(0.0, patience))
        now = time.monotonic()
        for running in list(self._running):
            if running.connection in ready or now >= running.deadline:
                yield running.position, running.outcome(self.limit)
                running.end()
                self._running.remove(running)


def _serve(
    connection: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    limit: float,
    folder: str,
) -> None:
    """The process of one call, whose temporary files are in ``folder``: it may not live to delete them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    signal.alarm(math.ceil(limit) + _GRACE_SECONDS)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    silence = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    try:
        answer = True, function(*arguments)
    except Exception as error:
        answer = False, _one_line(error)
    connection.send(answer)
    # Neither the runtime's threads nor exit handlers are worth waiting for.
    os._exit(0)


def _one_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"[:300]


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-exit_code).name
    return f"status {exit_code}"


def _fork_server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


_main_module_lock = threading.Lock()


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """multiprocessing would run the main script again in each process, which nothing here needs."""
    main = sys.modules["__main__"]
    with _main_module_lock:
        sys.modules["__main__"] = type(sys)("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
