"""The first part of a tuning session: which algorithm each convolution and each product shall go by.

Schedules are tuned afterwards, of the kernels that the chosen algorithms make.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..autotune.conv2d_algorithm_tasks import conv2d_algorithm_tasks
from ..autotune.matmul_algorithm_tasks import matmul_algorithm_tasks
from ..autotune.measurement import Measurer, RunOptions
from ..autotune.records import Purpose
from ..autotune.search import GridSearch
from ..autotune.session import Budget, Session, SessionOptions, open_session
from ..autotune.standings import median_ratio
from ..autotune.task_state import TaskState
from ..autotune.tasks import model_bytes
from .driver import FusedModel
from .model_contest import Build, champions, is_algorithm, note_whole_runs, some_records, whole_runs

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
    convolutions = conv2d_algorithm_tasks(fused.convolutions, fused.target, size)
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
    session: Session, build: Build, seconds: float, options: RunOptions
) -> AlgorithmContest | None:
    """Drops the chosen algorithms if the model is not faster with them; None if there is nothing new,
    or the model cannot be run.

    Args:
        session: has ended; what is found goes into its records.
        build: compiles the model.
        seconds: to spend on runs in each process.
        options: how many threads run the model.
    """
    chosen = champions(session)
    if all(_confirmed(state) for state in chosen):
        return None
    with some_records(session.options.records, is_algorithm) as records:
        executables = [build(), build(tuning_records=records)]
    default, tuned = whole_runs(executables, seconds, options)
    if not default.ok:
        return None
    for state in chosen:
        note_whole_runs(session, state, default, tuned)
    gain = median_ratio(default, tuned)
    return AlgorithmContest(default.median, default.median / gain if gain else float("inf"))


def _confirmed(state: TaskState) -> bool:
    """Whether the champion has won inside the model."""
    return any(
        record.purpose is Purpose.MODEL
        and state.standing is not None
        and record.candidate.knobs == state.standing.knobs
        for record in state.records
    )
