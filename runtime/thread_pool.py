"""How many threads the kernels use.

TVM keeps one pool of workers for each calling thread. A pool's size is fixed when it is made, by default at
half of the logical CPUs; later it can be told to use fewer of its workers, never more. So the first call in
a thread makes the pool as large as it asks for, and a call that needs a larger pool than its thread has
(because something else made it first) is carried out in a thread of its own.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from .library import load_runtime
from .processor import allowed_cpus

P = ParamSpec("P")
R = TypeVar("R")

# AffinityMode::kSpecifyThreadShareAllCore of TVM's threading backend: no worker is tied to one CPU.
_SHARE_ALL_CPUS = -3


class _CallingThread(threading.local):
    """What is known of the current thread's pool.

    Attributes:
        workers: how many it is set to use; 0 before the first call.
        substitutes: threads that stand in for this one, by the size of their pools.
    """

    def __init__(self) -> None:
        self.workers = 0
        self.usable = True
        self.substitutes: dict[int, ThreadPoolExecutor] = {}


_calling_thread = _CallingThread()


def call_with_threads(count: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls ``function`` so that the kernels in it run on ``count`` threads."""
    if _calling_thread.workers == count or _configure(count):
        return function(*args, **kwargs)
    substitutes = _calling_thread.substitutes
    if count not in substitutes:
        substitutes[count] = ThreadPoolExecutor(1, "relaxc", _configure, (count,))
    return substitutes[count].submit(function, *args, **kwargs).result()


def _configure(count: int) -> bool:
    """Sets the current thread's pool to ``count`` workers; False if it has too few."""
    if not _calling_thread.usable:
        return False
    ffi = load_runtime()
    cpus = [str(cpu) for cpu in itertools.islice(itertools.cycle(allowed_cpus()), count)]
    ffi.get_global_func("runtime.config_threadpool")(_SHARE_ALL_CPUS, count, cpus)
    _calling_thread.workers = int(ffi.get_global_func("runtime.NumThreads")())
    return _calling_thread.workers == count


def _forget_pools_after_fork() -> None:
    """A forked child has the pool's memory but none of its threads: waiting for them would never end."""
    _calling_thread.workers = 0
    _calling_thread.usable = False
    _calling_thread.substitutes = {}


os.register_at_fork(after_in_child=_forget_pools_after_fork)
