"""What the cost model knows of a schedule without running it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..targets.cpu.machine import Machine
from .tasks import Task

Features: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


def point_features(task: Task, points: Sequence[int], machine: Machine) -> Features:
    """``[points, features]``: the workload's numbers, the knobs, the machine's, and how they fit together.

    Tasks of one template give rows of the same meaning and length.
    """
    knobs = task.space.points[list(points)].astype(np.float64)
    extents = np.array([max(value, 0) for value in task.workload.values()], np.float64)
    shared = [*np.log2(extents + 1), *_amounts(task), *_machine(machine)]
    columns = [knobs, *_products(knobs), *(_utilisation(knobs, extent) for extent in extents)]
    constant = np.tile(np.array(shared), (len(knobs), 1))
    return np.concatenate([constant, *columns], axis=1)


def task_features(task: Task, machine: Machine) -> Features:
    """The part of ``point_features`` that all points of a task share."""
    extents = np.array([max(value, 0) for value in task.workload.values()], np.float64)
    return np.array([*np.log2(extents + 1), *_amounts(task), *_machine(machine)])


def _amounts(task: Task) -> tuple[float, float, float]:
    work, traffic = max(task.flops, 1), max(task.bytes_moved, 1)
    return math.log2(work), math.log2(traffic), math.log2(work / traffic)


def _machine(machine: Machine) -> tuple[float, ...]:
    return (
        float(machine.cores),
        float(machine.vector_bytes),
        float(machine.vector_registers),
        math.log2(machine.l1_bytes),
        math.log2(machine.l2_bytes),
    )


def _products(knobs: Features) -> list[Features]:
    """For each pair of knobs the product: how many accumulators a tile has, and the like."""
    pairs = itertools.combinations(range(knobs.shape[1]), 2)
    return [(knobs[:, a] * knobs[:, b])[:, None] for a, b in pairs]


def _utilisation(knobs: Features, extent: float) -> Features:
    """For each knob, which part of the last tile is used if it tiles ``extent``."""
    tiles = np.ceil(extent / np.maximum(knobs, 1))
    filled: Features = extent / np.maximum(tiles * np.maximum(knobs, 1), 1)
    return filled
