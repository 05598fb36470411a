"""Timing built kernels against each other. Needs the runtime only, not the compiler."""

from __future__ import annotations

import itertools
import math
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.library import load_runtime
from ..runtime.tensors import ElementType, aligned_memory, tensor_over
from ..runtime.thread_pool import call_with_threads
from .measurement import KERNEL_NAME, ArgumentSpec, BuiltKernel, Measurement, RunOptions, Status
from .median_interval import lower_rank

Array = np.ndarray[Any, Any]

# More than a last-level cache that one process is likely to have to itself.
_FLUSH_BYTES = 64 << 20
# A kernel that is slower than the first of its group by more, beyond chance, needs no exact time.
_CLEARLY_SLOWER = 1.05


def run_kernels(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
    """Times ``kernels``, which compute the same, in turns; checks their results against the first one's.

    A library is foreign code: call this in a process of its own, which may crash or hang.
    """
    return call_with_threads(options.threads, _run, kernels, options)


def _run(kernels: Sequence[BuiltKernel], options: RunOptions) -> list[Measurement]:
    arguments = _arguments(kernels, options.seed)
    with tempfile.TemporaryDirectory(prefix="relaxc-") as folder:
        functions = [_load(kernel, Path(folder) / f"{i}.so") for i, kernel in enumerate(kernels)]
        outcomes = _check(functions, arguments, options.tolerance)
        timed = [
            (function, handed)
            for function, handed, outcome in zip(functions, arguments, outcomes, strict=True)
            if outcome.ok
        ]
        calls = [_rotating_call(function, handed) for function, handed in timed]
        times = iter(time_in_turns(calls, options))
    return [
        replace(outcome, seconds=next(times) if outcome.ok else (), build_seconds=kernel.build_seconds)
        for outcome, kernel in zip(outcomes, kernels, strict=True)
    ]


def _arguments(kernels: Sequence[BuiltKernel], seed: int) -> list[Sequence[Argument]]:
    """What each kernel is handed: the same arrays wherever it takes the same as the first one."""
    made: dict[tuple[ArgumentSpec, ...], Sequence[Argument]] = {}
    for specs in (kernel.arguments for kernel in kernels):
        if specs not in made:
            generator = np.random.default_rng(seed)
            made[specs] = [Argument.random(spec, generator) for spec in specs]
    return [made[kernel.arguments] for kernel in kernels]


def _rotating_call(function: Callable[..., None], arguments: Sequence[Argument]) -> Callable[[], None]:
    """Calls ``function`` with the next copy of each argument, cyclically."""
    turns = itertools.count()
    sets = math.lcm(*(len(argument.tensors) for argument in arguments)) if arguments else 1
    handed = [[argument.tensors[i % len(argument.tensors)] for argument in arguments] for i in range(sets)]

    def call() -> None:
        function(*handed[next(turns) % sets])

    return call


def _load(kernel: BuiltKernel, path: Path) -> Callable[..., None]:
    path.write_bytes(kernel.library)
    function: Callable[..., None] = load_runtime().load_module(str(path))[KERNEL_NAME]
    return function


@dataclass(frozen=True)
class Argument:
    """What a kernel reads or writes, in aligned memory.

    Attributes:
        array: the values of the first copy, for NumPy.
        tensors: all copies, for the kernel.
    """

    array: Array
    tensors: tuple[Any, ...]

    @classmethod
    def random(cls, spec: ArgumentSpec, generator: np.random.Generator) -> Argument:
        """Floating-point numbers between -1 and 1; ones of all other types."""
        element = ElementType.named(spec.dtype)
        size = math.prod(spec.shape) * element.carrier.itemsize
        memories = [aligned_memory(size) for _ in range(spec.copies)]
        array = memories[0].view(element.staging).reshape(spec.shape)
        # Integers may be indices or divisors: one is valid for nearly all of them.
        if array.dtype.kind in "biu":
            array[...] = 1
        else:
            array[...] = _transformed(2 * generator.random(spec.drawn_shape, np.float32) - 1, spec)
        for memory in memories[1:]:
            memory[:] = memories[0]
        return cls(array, tuple(tensor_over(memory, spec.shape, element) for memory in memories))


def _transformed(weights: Array, spec: ArgumentSpec) -> Array:
    if spec.quadrants:
        panels, products, depth, lanes = spec.shape
        parts = weights.reshape(2, panels, 2, depth, lanes)
        factors = np.array(spec.quadrants).reshape(products, 2, 2)
        return np.asarray(np.einsum("prc,cnrkv->npkv", factors, parts))
    if not spec.windows:
        return weights
    G = np.array(spec.windows)
    return np.asarray(np.einsum("ir,orscv,js->oijcv", G, weights, G).reshape(spec.shape))


def _check(
    functions: Sequence[Callable[..., None]], arguments: Sequence[Sequence[Argument]], tolerance: float
) -> list[Measurement]:
    """Calls each function on the same values and compares everything that it was handed afterwards.

    Weights are left out, which each algorithm takes in a form of its own.
    """
    before = [[argument.array.copy() for argument in handed] for handed in arguments]
    reference: list[Array] = []
    outcomes = []
    for function, handed, values in zip(functions, arguments, before, strict=True):
        for argument, value in zip(handed, values, strict=True):
            argument.array[...] = value
        function(*(argument.tensors[0] for argument in handed))
        results = [argument.array.copy() for argument in handed]
        reference = reference or results
        comparable = [
            i for i, (a, b) in enumerate(zip(results, reference, strict=True)) if a.shape == b.shape
        ]
        pairs = ([results[i] for i in comparable], [reference[i] for i in comparable])
        outcomes.append(compare_results(*pairs, tolerance))
    return outcomes


def compare_results(results: Sequence[Array], reference: Sequence[Array], tolerance: float) -> Measurement:
    """An ok without times where ``results`` are close to ``reference``; else what differs."""
    for position, (result, expected) in enumerate(zip(results, reference, strict=True)):
        error = _relative_error(result, expected)
        if not error <= max(tolerance, _rounding_error(expected.dtype)):
            return Measurement(
                Status.WRONG_RESULT, message=f"argument {position} is off by {error:.1e} of its largest value"
            )
    return Measurement(Status.OK)


def _rounding_error(dtype: np.dtype[Any]) -> float:
    """How far apart sums of another order may be, relative to the largest: they are rounded to ``dtype``."""
    return 0.0 if dtype.kind in "biu" else 2 * float(_epsilon(dtype))


def _epsilon(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return float(np.finfo(dtype).eps)
    import ml_dtypes

    limits: Any = ml_dtypes.finfo  # which has no types
    return float(limits(dtype).eps)


def _relative_error(result: Array, expected: Array) -> float:
    """The largest difference, relative to the largest finite magnitude expected; infinite for a lost NaN."""
    if _same_bytes(result, expected):  # weights, above all, which no kernel writes
        return 0.0
    a, b = result.astype(np.float64), expected.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.isfinite(b)
    if not np.all(same | (finite & np.isfinite(a))):
        return math.inf
    scale = float(np.max(np.abs(b), where=finite, initial=0.0)) or 1.0
    return float(np.max(np.abs(np.subtract(a, b, where=~same, out=np.zeros_like(a))))) / scale


def _same_bytes(a: Array, b: Array) -> bool:
    return np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8))


def time_in_turns(calls: Sequence[Callable[[], None]], options: RunOptions) -> list[tuple[float, ...]]:
    """The seconds of one call of each of ``calls``, for every round.

    The rounds end early where all others are clearly slower than the first.

    A round in which the system gave the processor to somebody else says little about ``calls``: it is left
    out, unless nearly all rounds are like that.
    """
    order = np.random.default_rng(options.seed)
    counts = [_calls_per_round(call, options) for call in calls]
    scratch = np.zeros(_FLUSH_BYTES, np.uint8) if options.flush_cache else None
    clean: list[list[float]] = []
    disturbed: list[list[float]] = []
    least, most = options.repetitions
    deadline = time.perf_counter() + options.max_seconds
    while len(clean) < most and not _settled(clean, options):
        if len(clean) + len(disturbed) >= least and time.perf_counter() > deadline:
            break
        interruptions = _interruptions()
        # Another order in every round: a fixed one may fall into step with the scheduler's.
        row = [0.0] * len(calls)
        for i in order.permutation(len(calls)):
            row[i] = _seconds_per_call(calls[i], counts[i], scratch)
        (clean if _interruptions() == interruptions else disturbed).append(row)
    rounds = clean if len(clean) >= least else clean + disturbed
    return list(zip(*rounds, strict=True))


def _settled(rounds: Sequence[Sequence[float]], options: RunOptions) -> bool:
    if len(rounds) < options.repetitions[0]:
        return False
    first, *others = zip(*rounds, strict=True)
    return (bool(others) and all(_clearly_slower(times, first) for times in others)) or all(
        interval_width(times) < options.confidence_width for times in (first, *others)
    )


def _clearly_slower(times: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether the 95 % confidence interval of the median ratio of neighbouring times lies above the bar."""
    ratios = sorted(time / other for time, other in zip(times, reference, strict=True))
    rank = lower_rank(len(ratios))
    return rank is not None and ratios[rank] > _CLEARLY_SLOWER


def _interruptions() -> int:
    """How often any thread of this process had to leave its processor against its will."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _calls_per_round(call: Callable[[], None], options: RunOptions) -> int:
    for _ in range(max(1, options.warmup)):
        seconds = _seconds_per_call(call, 1)
    return 1 if options.flush_cache else max(1, round(options.round_seconds / max(seconds, 1e-7)))


def _seconds_per_call(call: Callable[[], None], count: int, scratch: Array | None = None) -> float:
    """The mean of ``count`` calls, after writing to ``scratch`` if given, which empties the caches."""
    if scratch is not None:
        scratch += 1
    start = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - start) / count * 1e-9


def interval_width(times: Sequence[float]) -> float:
    """The width of the 95 % confidence interval of the median, relative to the median.

    From order statistics, which assume no distribution (Hollander, Wolfe, Chicken: Nonparametric Statistical
    Methods, section 3.6). Infinite for fewer than six values, which cannot give that confidence.
    """
    n, rank = len(times), lower_rank(len(times))
    if rank is None:
        return math.inf
    ordered = sorted(times)
    return (ordered[n - 1 - rank] - ordered[rank]) / ordered[n // 2]
