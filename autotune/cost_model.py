"""A model that predicts how a schedule compares with the default (Chen et al., "Learning to Optimize Tensor
Programs", NeurIPS 2018), by gradient-boosted trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..runtime.errors import RelaxcError
from ..targets.cpu.machine import Machine
from .features import Features, point_features
from .search import History, Knowledge
from .tasks import Task

# What a failed candidate counts as: its logarithm must be far below that of any that ran, yet finite.
_FAILED_GAIN = 0.05
_ROUNDS = 60
_PARAMETERS = {
    "max_depth": 5,
    "eta": 0.2,
    "min_child_weight": 1.0,
    "subsample": 0.9,
    "objective": "reg:squarederror",
    "nthread": 1,
    "verbosity": 0,
}


class CostModel:
    """Trained on all tasks of one template, so that what one task taught serves the others."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._seed = seed
        self._booster: Any = None

    def train(self, template: str, knowledge: Knowledge) -> None:
        """Learns from everything that was measured of the tasks of ``template``."""
        xgboost = _import_xgboost()
        known = [(task, history) for task, history in knowledge if task.kernel.template == template]
        known = [(task, history) for task, history in known if history.gains]
        if not known:
            return
        features = np.concatenate(
            [point_features(task, list(history.gains), self._machine) for task, history in known]
        )
        targets = np.concatenate([_targets(history) for _, history in known])
        data = xgboost.DMatrix(features, label=targets, nthread=1)
        self._booster = xgboost.train(_PARAMETERS | {"seed": self._seed}, data, num_boost_round=_ROUNDS)

    def predict(self, task: Task, points: Sequence[int]) -> Features:
        """The binary logarithm of the gain expected of each point."""
        xgboost = _import_xgboost()
        rows = xgboost.DMatrix(point_features(task, points, self._machine), nthread=1)
        predicted: Features = self._booster.predict(rows)
        return predicted


def _targets(history: History) -> Features:
    return np.log2([max(gain, _FAILED_GAIN) for gain in history.gains.values()])


def _import_xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise RelaxcError(
            f"the search needs xgboost ({error}): pip install 'relaxc[tune]', or use --search random"
        ) from error
    return xgboost
