"""The first part of a tuning session: which algorithm each convolution and each product shall go by.

Each is measured alone; ``model_choice`` decides inside the model. Schedules are tuned afterwards, of the
kernels that the chosen algorithms make.
"""

from __future__ import annotations

from dataclasses import replace

from ..autotune.algorithm_tasks import AlgorithmTask
from ..autotune.chain_algorithm_tasks import chain_algorithm_tasks
from ..autotune.conv2d_algorithm_tasks import conv2d_algorithm_tasks
from ..autotune.matmul_algorithm_tasks import matmul_algorithm_tasks
from ..autotune.measurement import Measurer
from ..autotune.search import GridSearch
from ..autotune.session import Budget, Session, SessionOptions, open_session
from ..autotune.tasks import model_bytes
from .driver import FusedModel

_PART_OF_BUDGET = 4


def open_algorithm_session(fused: FusedModel, measurer: Measurer, options: SessionOptions) -> Session | None:
    """A session with a part of the budget; None if the model has no operator with a choice.

    Every algorithm is tried, for the operators with the largest share of the time first.
    """
    tasks = _measurable(fused)
    if not tasks:
        return None
    budget = options.budget
    part = Budget(
        trials=None if budget.trials is None else budget.trials // _PART_OF_BUDGET,
        seconds=None if budget.seconds is None else budget.seconds / _PART_OF_BUDGET,
        patience=budget.patience,
    )
    session, _ = open_session(
        tasks, fused.target, measurer, replace(options, search=GridSearch(), budget=part)
    )
    return session


def open_choice_session(fused: FusedModel, measurer: Measurer, options: SessionOptions) -> Session | None:
    """A session of all operators with a choice, those included that are only compared inside the model.

    It knows what the records hold, and is not run. None if the model has no such operator.
    """
    tasks = [*_measurable(fused), *chain_algorithm_tasks(fused.chains, fused.target)]
    return open_session(tasks, fused.target, measurer, options)[0] if tasks else None


def _measurable(fused: FusedModel) -> list[AlgorithmTask]:
    """The operators of which each algorithm is one kernel."""
    size = model_bytes(fused.module)
    convolutions = conv2d_algorithm_tasks(fused.convolutions, fused.target, size)
    return [*convolutions, *matmul_algorithm_tasks(fused.products, fused.target, size)]
