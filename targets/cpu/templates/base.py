"""What every kernel template offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from tvm.s_tir import Schedule

from ..machine import Machine

Workload = Any
"""A small frozen data class, one per template, that says what a kernel computes."""
Config = Any
"""A small frozen data class, one per template: a point in its schedule space."""


class Template(Protocol):
    """A family of kernels that are scheduled in one way.

    The schedule handed to a template holds one function, ``main``.

    Attributes:
        name: what reports call it.
        version: goes up when ``apply`` makes another schedule of the same config, or a config means something
            else: the tuner's records are then out of date.
    """

    name: str
    version: int

    def matches(self, sch: Schedule) -> Workload | None:
        """What the function computes, or None if it is not of this family."""

    def space(self, workload: Workload, machine: Machine) -> Iterator[Config]:
        """The schedule choices, finitely many, the default among them."""

    def default(self, workload: Workload, machine: Machine) -> Config:
        """A good choice, without any measuring."""

    def apply(self, sch: Schedule, workload: Workload, config: Config) -> None:
        """Schedules the function in place."""
