"""The first part of a tuning session: which algorithm each convolution and each product shall go by.

Schedules are tuned afterwards, of the kernels that the chosen algorithms make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from ..autotune.algorithm_tasks import algorithm_tasks
from ..autotune.matmul_algorithm_tasks import matmul_algorithm_tasks
from ..autotune.measurement import Measurement, Measurer, Status
from ..autotune.records import Purpose
from ..autotune.search import GridSearch
from ..autotune.session import Budget, Session, SessionOptions, open_session
from ..autotune.task_state import TaskState
from ..autotune.tasks import model_bytes
from ..runtime import Executable
from .driver import FusedModel
from .model_contest import champions, is_algorithm, some_records, whole_runs_in_turns
from .sample_inputs import sample_inputs

_PART_OF_BUDGET = 4


@dataclass(frozen=True)
class AlgorithmContest:
    """The median seconds of a run of the model, with the cost model's algorithms and with the chosen ones."""

    untuned: float
    tuned: float

    def __str__(self) -> str:
        verdict = "kept" if self.tuned < self.untuned else "dropped"
        return (
            f"inside the model: other algorithms {verdict}; a run takes "
            f"{self.untuned * 1e3:.2f} -> {self.tuned * 1e3:.2f} ms ({self.untuned / self.tuned:.2f}x)"
        )


def open_algorithm_session(fused: FusedModel, measurer: Measurer, options: SessionOptions) -> Session | None:
    """A session with a part of the budget; None if the model has no operator with a choice.

    Every algorithm is tried, for the operators with the largest share of the time first.
    """
    size = model_bytes(fused.module)
    convolutions = algorithm_tasks(fused.convolutions, fused.target, size)
    tasks = [*convolutions, *matmul_algorithm_tasks(fused.products, fused.target, size)]
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


def hold_algorithm_contest(
    session: Session, build: Callable[..., Executable], seconds: float
) -> AlgorithmContest | None:
    """Drops the chosen algorithms if the model is not faster with them; None if there is nothing new.

    Args:
        session: has ended; what is found goes into its records.
        build: compiles the model; takes ``tuning_records``.
        seconds: to spend on runs.
    """
    chosen = champions(session)
    if all(_confirmed(state) for state in chosen):
        return None
    with some_records(session.options.records, is_algorithm) as records:
        executables = [build(), build(tuning_records=records)]
    inputs = sample_inputs(executables[0].inputs, {})
    runs = [
        Measurement(Status.OK, tuple(times)) for times in whole_runs_in_turns(executables, inputs, seconds)
    ]
    for state in chosen:
        session.note_model_run(state, *runs)
    return AlgorithmContest(*(median(run.seconds) for run in runs))


def _confirmed(state: TaskState) -> bool:
    """Whether the champion has won inside the model."""
    return any(
        record.purpose is Purpose.MODEL
        and state.standing is not None
        and record.candidate.knobs == state.standing.knobs
        for record in state.records
    )
