"""A call in a process of its own may do anything."""

from __future__ import annotations

import ctypes
import os
import tempfile
import time
from pathlib import Path

from relaxc.autotune.isolation import Failure, FailureKind, IsolatedCalls


def test_results_come_in_the_order_of_the_arguments() -> None:
    assert IsolatedCalls(abs, limit=120, at_once=2)([(-1,), (-2,), (-3,)]) == [1, 2, 3]


def test_an_exception_is_a_failure_of_one_line() -> None:
    (failure,) = IsolatedCalls(int, limit=120)([("many\nlines",)])
    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.EXCEPTION
    assert failure.message.startswith("ValueError")
    assert "\n" not in failure.message


def test_a_crash_is_a_failure_and_the_others_go_on() -> None:
    failed, length = IsolatedCalls(ctypes.string_at, limit=120, at_once=2)([(1,), (b"bytes",)])
    assert failed == Failure(FailureKind.CRASH, "the process ended with SIGSEGV")
    assert length == b"bytes"


def test_a_call_that_hangs_is_killed() -> None:
    started = time.monotonic()
    hung, slept = IsolatedCalls(time.sleep, limit=4.0, at_once=2)([(120,), (0.01,)])
    assert isinstance(hung, Failure)
    assert hung.kind is FailureKind.TIMEOUT
    assert slept is None
    assert time.monotonic() - started < 120


def test_what_a_call_leaves_in_temporary_files_is_deleted() -> None:
    """Also where it was killed: whoever waits for it deletes them."""
    (left,) = IsolatedCalls(tempfile.mkdtemp, limit=120)([()])
    assert isinstance(left, str)
    assert not Path(left).exists()


def test_each_call_has_its_own_process() -> None:
    assert len({os.getpid(), *IsolatedCalls(os.getpid, limit=120)([(), ()])}) == 3
