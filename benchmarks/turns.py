"""Peers that take turns: each in a process of its own, only one at work at a time.

A disturbance of the machine then meets everyone, and nobody's threads get in another's way.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from relaxc.compiler.reports.peak_memory import PeakMemory

# What a peer runs: called once in its own process, gives the call that is timed.
Setup = Callable[..., Callable[[], object]]

_WARM_UP = 3
# Threads spin for a while after their work: the next peer starts when these are asleep.
_PAUSE_SECONDS = 0.2


@dataclass
class PeerRecord:
    """What was measured of one peer.

    Attributes:
        seconds: of every timed call; empty if the peer failed.
        peak_bytes: resident memory that loading and running the model took at most, on top of what the
            process had before.
        failure: why there are no calls; None if there are.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    failure: str | None = None


def take_turns(
    peers: Mapping[str, tuple[Setup, tuple[Any, ...]]],
    rounds: int = 5,
    calls: int = 20,
    turn_seconds: float = 3.0,
) -> dict[str, PeerRecord]:
    """A record by the peer's name.

    Args:
        peers: a function of a module's top level, and its arguments, by the peer's name.
        rounds: how many turns everyone has.
        calls: timed calls in a turn, at most.
        turn_seconds: a turn in which so much time has gone by ends with the call in progress.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    for name, (setup, arguments) in peers.items():
        connections[name], theirs = context.Pipe()
        context.Process(target=_serve, args=(theirs, setup, arguments), daemon=True).start()
        theirs.close()
    records = {name: PeerRecord(failure=connection.recv()) for name, connection in connections.items()}
    ready = {name: connections[name] for name, record in records.items() if record.failure is None}
    for _ in range(rounds):
        for name, connection in ready.items():
            time.sleep(_PAUSE_SECONDS)
            connection.send((calls, turn_seconds))
            records[name].seconds += connection.recv()
    for name, connection in ready.items():
        connection.send(None)
        records[name].peak_bytes = connection.recv()
    return records


def _serve(connection: Connection, setup: Setup, arguments: tuple[Any, ...]) -> None:
    """A peer's process: says whether it is ready, then times as many calls as it is asked for."""
    memory = PeakMemory()
    try:
        run = setup(*arguments)
    except Exception as error:  # whatever a peer raises, the others go on without it
        connection.send(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return
    connection.send(None)
    while (turn := connection.recv()) is not None:
        connection.send(_turn(run, *turn))
    connection.send(memory.bytes())


def _turn(run: Callable[[], object], calls: int, turn_seconds: float) -> list[float]:
    ends = time.perf_counter() + turn_seconds
    for _ in range(_WARM_UP):
        if time.perf_counter() < ends:
            run()
    times = [_seconds(run)]
    while len(times) < calls and time.perf_counter() < ends:
        times.append(_seconds(run))
    return times


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
