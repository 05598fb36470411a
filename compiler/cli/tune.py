"""``relaxc tune``: find faster schedules for a model's kernels, by measuring them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...runtime.atomic_file import check_writable
from ...runtime.errors import RelaxcError
from ..options import CompileOptions
from .compiler_library import require_compiler
from .console import progress, results
from .device_options import (
    Devices,
    RayOption,
    RpcKeyOption,
    RpcTrackerOption,
    SecretFileOption,
    ThisMachine,
    devices,
)
from .model_options import (
    Precision,
    PrecisionOption,
    StaticInputsOption,
    TargetOption,
    parse_target,
    read_arrays,
)
from .shape_option import ShapeOption, parse_shapes

if TYPE_CHECKING:
    from ...autotune.measurement import Measurer, RunOptions
    from ...autotune.session import Session, SessionOptions
    from ...autotune.tasks import Task
    from ...runtime import Executable
    from ...targets.registry import CpuTarget
    from ..driver import FusedModel
    from ..model_contest import Build
    from ..model_search import SearchTimes


# The part of the session's time for the search inside the model, where the model can run.
_PART_INSIDE = 0.4
# The part for the choice of algorithms inside the model.
_PART_FOR_CHOICE = 0.15


class SearchName(StrEnum):
    """What ``--search`` takes."""

    XGBOOST = "xgboost"
    RANDOM = "random"
    GRID = "grid"


def tune(
    model: Annotated[Path, typer.Argument(help="The model.", metavar="MODEL.onnx")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The records, which are added to; by default MODEL.records."),
    ] = None,
    target: TargetOption = "native",
    shape: ShapeOption = [],  # noqa: B006 - typer never changes it
    static_inputs: StaticInputsOption = None,
    precision: PrecisionOption = Precision.FP32,
    no_winograd: Annotated[
        bool, typer.Option("--no-winograd", help="Convolve directly, as compile --no-winograd does.")
    ] = False,
    no_strassen: Annotated[
        bool, typer.Option("--no-strassen", help="Multiply directly, as compile --no-strassen does.")
    ] = False,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Candidates to measure, those in the records included.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Time for this session.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of the measured kernels; by default all cores.")
    ] = None,
    search: Annotated[SearchName, typer.Option(help="How candidates are chosen.")] = SearchName.XGBOOST,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Candidates measured together.")] = 8,
    patience: Annotated[
        int, typer.Option(min=1, help="Trials of a kernel without a gain after which it gets no more.")
    ] = 96,
    flush_cache: Annotated[
        bool, typer.Option("--flush-cache", help="Empty the caches before every call.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds for a candidate's runs, after which it is given up.")
    ] = 20.0,
    report: Annotated[Path | None, typer.Option(help="Write a report with curves here (.html).")] = None,
    rpc_tracker: RpcTrackerOption = None,
    rpc_key: RpcKeyOption = None,
    secret_file: SecretFileOption = None,
    ray: RayOption = None,
) -> None:
    """Search faster schedules for a model's kernels by measuring them, on this machine or on others.

    Ctrl-C ends a session early and loses nothing; the same command goes on with it. What decides the kernels
    (--shape, --static-inputs, --precision, --no-winograd, --no-strassen) must be what compile gets.

    Example: relaxc tune model.onnx -o model.records --minutes 10 --shape x:1,3,224,224
    """
    if trials is None and minutes is None:
        minutes = 10.0
    records = output or model.with_suffix(".records")
    if report:
        check_writable(report)
    require_compiler()
    place = devices(rpc_tracker, rpc_key, secret_file, ray)
    form = ModelForm(
        parse_target(target),
        parse_shapes(shape) or None,
        read_arrays(static_inputs),
        precision.value,
        not no_winograd,
        not no_strassen,
    )
    from ...autotune.measurement import RunOptions
    from ...autotune.search import SEARCHES
    from ...autotune.session import Budget, SessionOptions

    timing = RunOptions(threads or place.threads(), time_limit=time_limit, flush_cache=flush_cache)
    budget = Budget(trials, None if minutes is None else minutes * 60, patience)
    options = SessionOptions(records, timing.threads, SEARCHES[search.value](), budget, batch, seed)
    _tune(model, form, place, timing, options, report)


@dataclass(frozen=True)
class ModelForm:
    """What decides, besides the model, which kernels there are. See ``relaxc.compile``."""

    target: str | dict[str, Any]
    shapes: dict[str, tuple[int, ...]] | None
    static_inputs: dict[str, Any] | None
    precision: str
    winograd: bool
    strassen: bool


def _tune(
    model: Path,
    form: ModelForm,
    place: Devices,
    timing: RunOptions,
    options: SessionOptions,
    report: Path | None,
) -> None:
    """The whole session: algorithms, then schedules, alone and then inside the model if it can run here."""
    build = _compilation(model, form)
    fused = _fuse(model, form)
    here = isinstance(place, ThisMachine) and timing.threads == place.threads() and _has_known_inputs(fused)
    clock = Clock(options.budget.seconds)
    if here:
        options = dataclasses.replace(options, budget=options.budget.part(1 - _PART_INSIDE))
    with closing(place.measurer(timing, fused.target)) as measurer:
        chosen = _choose_algorithms(fused, measurer, options)
        verdict = _choose_inside(fused, measurer, options, build, timing, clock) if here else ""
        budget = options.budget.after(chosen.trials if chosen else 0, clock.used)
        options = dataclasses.replace(options, budget=budget)
        fused = _fuse(model, form, options.records, timing.threads)
        session = _open(_extract(model, fused), fused.target, measurer, options)
        _say_what_was_done(session, chosen)
        session.limits = place.limits(timing.threads)
        with _results_at_the_end(session, report, verdict):
            _run(session)
            if here:
                _go_on_inside(session, build, timing, clock)


@dataclass(frozen=True)
class Clock:
    """The time of the command, from when this was made.

    Attributes:
        seconds: for everything; None where only trials count.
    """

    seconds: float | None
    started: float = field(default_factory=time.monotonic)

    @property
    def used(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def for_choice(self) -> float:
        """Seconds for the choice of algorithms inside the model: a part, or as many as were used."""
        return self.used if self.seconds is None else _PART_FOR_CHOICE * self.seconds

    def left(self) -> float:
        """Seconds for the search inside the model: the rest, or in proportion to what was used."""
        proportional = self.used * _PART_INSIDE / (1 - _PART_INSIDE)
        return proportional if self.seconds is None else max(0.0, self.seconds - self.used)


def _fuse(model: Path, form: ModelForm, records: Path | None = None, threads: int = 0) -> FusedModel:
    """The model's kernels; convolutions go by the algorithms that ``records`` hold for so many threads."""
    from ...autotune.records import TargetKey
    from ...autotune.tuned_kernels import TunedKernels
    from ...targets.registry import resolve
    from ..driver import fuse

    key = TargetKey(resolve(form.target).mcpu, threads)
    tuned = TunedKernels.read(records, key) if records is not None and records.exists() else None
    with progress() as say:
        options = CompileOptions(winograd=form.winograd, strassen=form.strassen, report=say)
        return fuse(model, form.target, form.shapes, form.static_inputs, options, form.precision, tuned)


def _compilation(model: Path, form: ModelForm) -> Build:
    """Compiles the model; takes ``tuning_records``."""
    from ..driver import compile

    options = CompileOptions(winograd=form.winograd, strassen=form.strassen)
    return partial(
        compile, model, form.target, form.shapes, form.static_inputs, form.precision, options=options
    )


def _has_known_inputs(fused: FusedModel) -> bool:
    """Whether the model can be run on made-up inputs: none of them has a symbolic extent."""
    return not any(isinstance(extent, str) for spec in fused.imported.inputs for extent in spec.shape)


def _choose_algorithms(fused: FusedModel, measurer: Measurer, options: SessionOptions) -> Session | None:
    """Measures by which algorithms operators are fastest; None if there is nothing to measure."""
    from ..algorithm_choice import open_algorithm_session

    session = open_algorithm_session(fused, measurer, options)
    if session is None:
        return None
    typer.echo(f"{len(session.states)} operators whose algorithm is to choose", err=True)
    with _results_at_the_end(session, None):
        _run(session)
    return session


def _choose_inside(
    fused: FusedModel,
    measurer: Measurer,
    options: SessionOptions,
    build: Build,
    timing: RunOptions,
    clock: Clock,
) -> str:
    """Chooses algorithms by whole runs of the model; a line on what came of it, if something did."""
    from ...autotune.model_round import RoundError
    from ..algorithm_choice import open_choice_session
    from ..model_choice import choose_inside

    session = open_choice_session(fused, measurer, options)
    if session is None:
        return ""
    with progress() as say:
        say(f"choosing the algorithms of {len(session.states)} operators inside the model")
        try:
            outcome = choose_inside(session, build, clock.for_choice(), timing, say)
        except RoundError as error:
            typer.echo(f"note: {error}", err=True)
            return ""
    verdict = "" if outcome is None else str(outcome)
    typer.echo(verdict, nl=bool(verdict))
    return verdict


def _extract(model: Path, fused: FusedModel) -> Sequence[Task]:
    from ...autotune.tasks import extract_tasks

    with progress() as say:
        say("looking for kernels to tune")
        extracted = extract_tasks(fused.module, fused.target)
    left_out = ", ".join(f"{count} with {reason}" for reason, count in extracted.without_choice.items())
    note = f"; not tuned: {left_out}" if left_out else ""
    typer.echo(f"{len(extracted.tasks)} distinct kernels to tune{note}", err=True)
    if not extracted.tasks:
        raise RelaxcError(f"{model} has no kernels to tune{note}; bind symbolic dimensions with --shape")
    return extracted.tasks


def _open(tasks: Sequence[Task], target: CpuTarget, measurer: Measurer, options: SessionOptions) -> Session:
    from ...autotune.session import open_session

    session, notices = open_session(tasks, target, measurer, options)
    for notice in notices:
        typer.echo(f"note: {notice}", err=True)
    return session


def _say_what_was_done(session: Session, algorithms: Session | None) -> None:
    """A line on earlier sessions."""
    if session.trials:
        trials = session.trials + (algorithms.trials if algorithms else 0)
        typer.echo(f"{session.options.records}: going on after {trials} trials", err=True)


def _run(session: Session) -> None:
    from ...autotune.live_table import live_table

    with live_table() as session.show:
        session.run()


@contextmanager
def _results_at_the_end(session: Session, report: Path | None, algorithms: str = "") -> Iterator[None]:
    """Shows and reports what the session has found, even where it is interrupted.

    The report also has a line on ``algorithms``.
    """
    from ...autotune.live_table import final_table, summary

    try:
        yield
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on", err=True)
        raise
    finally:
        results().print(final_table(session))
        if report:
            from ...autotune.report import write_report

            write_report(report, session, algorithms)
        typer.echo(summary(session))


def _go_on_inside(session: Session, build: Build, timing: RunOptions, clock: Clock) -> None:
    """Searches inside the model, and keeps what makes whole runs faster."""
    from ...autotune.model_round import RoundError
    from ..model_contest import built_with
    from ..model_search import SearchTimes

    with progress() as say:
        say("compiling the model with the defaults")
        untuned = built_with(session, build, [])
    times = SearchTimes.within(clock.left())
    try:
        _search_inside(session, untuned, timing, times)
    except RoundError as error:
        typer.echo(f"note: {error}", err=True)
    try:
        _compare_whole_runs(session, untuned, build, times, timing)
    except RoundError as error:
        typer.echo(f"note: {error}", err=True)


def _search_inside(session: Session, untuned: Executable, timing: RunOptions, times: SearchTimes) -> None:
    from ..model_search import search_model

    with progress() as say:
        say("searching inside the model")
        search_model(session, untuned, timing, times, say)


def _compare_whole_runs(
    session: Session, untuned: Executable, build: Build, times: SearchTimes, timing: RunOptions
) -> None:
    from ..model_contest import hold_model_contest

    with progress() as say:
        say("comparing the tuned model with the untuned one")
        outcome = hold_model_contest(session, untuned, build, times.whole_runs, timing)
    typer.echo(str(outcome) if outcome is not None else "inside the model: the defaults are best")
