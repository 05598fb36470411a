"""The table of converters: which function converts which operator of which version."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from collections.abc import Sequence as PySequence
from typing import TYPE_CHECKING, TypeAlias

from .values import Value

if TYPE_CHECKING:
    from .node import Node

Result: TypeAlias = "Value | PySequence[Value]"
Converter: TypeAlias = "Callable[[Node], Result]"
"""Converts one node; returns its output, or its outputs in order."""

_converters: dict[tuple[str, str], list[tuple[int, Converter]]] = {}


def converts(*op_types: str, since: int = 1, domain: str = "") -> Callable[[Converter], Converter]:
    """Registers the decorated function for operators, from opset version ``since`` on.

    A later ``since`` of the same operator takes over at that version.
    """

    def register(converter: Converter) -> Converter:
        for op_type in op_types:
            versions = _converters.setdefault((domain, op_type), [])
            bisect.insort(versions, (since, converter), key=lambda entry: entry[0])
        return converter

    return register


def find(domain: str, op_type: str, opset: int) -> Converter | None:
    """The converter for an operator at an opset version, or None."""
    versions = _converters.get((domain, op_type), [])
    position = bisect.bisect_right(versions, opset, key=lambda entry: entry[0])
    return versions[position - 1][1] if position else None


def supported() -> dict[tuple[str, str], tuple[int, ...]]:
    """Every (domain, operator) with the versions at which its conversion changes."""
    return {name: tuple(since for since, _ in versions) for name, versions in sorted(_converters.items())}
