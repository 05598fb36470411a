"""Random models and broken files, against which the compiler must hold.

``python -m benchmarks.fuzz models`` compares models that NNSmith makes with ONNX Runtime, and cuts those that
fail down to the smallest part that does, which becomes a test (``make fuzz``).
``python -m benchmarks.fuzz files`` compiles broken copies of real files: each must be refused in one line, or
compile (``make fuzz-files``). Every case runs in a process that may crash or hang. Exits 1 if any case fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..isolation import run_isolated
from ..outcome import Outcome
from .broken_files import MEMORY_LIMIT, compile_broken_file
from .corpus import load_corpus
from .generated import GeneratedModel
from .generator import generate
from .implementations import compare, keep_reference
from .judgement import EXCUSES
from .mutated import MutatedFile, mutated_files
from .regressions import FOLDER, keep_regression, keep_whole
from .summary import failures, print_summary

Named = GeneratedModel | MutatedFile


def main() -> int:
    """Parse, run, report; returns the exit code."""
    arguments = _parser().parse_args()
    code: int = arguments.run(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at once")
    kinds = parser.add_subparsers(required=True)
    models = kinds.add_parser("models", help="random models of NNSmith")
    models.add_argument("--count", type=int, default=1000, help="how many (default: 1000)")
    models.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    models.add_argument("--nodes", type=int, default=10, help="operators in a model, at most (default: 10)")
    models.add_argument("--limit", type=float, default=60, help="seconds for a model (default: 60)")
    models.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="where models are kept")
    models.add_argument("--python", type=Path, default=Path(".venv-nnsmith/bin/python"), help="with NNSmith")
    models.add_argument("--regressions", type=Path, default=FOLDER, help="where failing parts are stored")
    models.set_defaults(run=_fuzz_models)
    files = kinds.add_parser("files", help="broken copies of real files")
    files.add_argument("--count", type=int, default=1000, help="how many (default: 1000)")
    files.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    files.add_argument("--limit", type=float, default=20, help="seconds for a file (default: 20)")
    files.add_argument("--sample", action="store_true", help="only of files that the installed onnx carries")
    files.set_defaults(run=_fuzz_files)
    return parser


def _fuzz_models(arguments: argparse.Namespace) -> int:
    jobs, limit = arguments.jobs, arguments.limit
    models = generate(
        arguments.python, arguments.folder, arguments.seed, arguments.count, arguments.nodes, jobs
    )
    run_isolated(keep_reference, models, jobs, limit)
    found = run_isolated(compare, models, jobs, limit, _progress(len(models)))
    outcomes = {model.name: outcome for model, outcome in zip(models, found, strict=True)}
    failed = failures(outcomes, EXCUSES)
    failing = [model for model in models if model.name in failed]
    kept = run_isolated(keep_regression(arguments.regressions), failing, jobs, 20 * limit)
    for model, stored in zip(failing, kept, strict=True):
        outcome = outcomes[model.name]
        if not stored.passed:
            keep_whole(model, arguments.regressions)
        print(f"{model.path}: {outcome.cause}: {outcome.reason}; {stored.reason}")
    print_summary(f"{len(models)} models of NNSmith", outcomes, EXCUSES)
    return int(bool(failed))


def _fuzz_files(arguments: argparse.Namespace) -> int:
    files = mutated_files(load_corpus(arguments.sample), arguments.seed, arguments.count)
    report = _progress(len(files))
    found = run_isolated(
        compile_broken_file, files, arguments.jobs, arguments.limit, report, memory_limit=MEMORY_LIMIT
    )
    outcomes = {file.name: outcome for file, outcome in zip(files, found, strict=True)}
    failed = failures(outcomes, ())
    print_summary(f"{len(files)} broken files", outcomes, ())
    return int(bool(failed))


def _progress(total: int) -> Callable[[int, Named, Outcome], None]:
    started = time.monotonic()

    def report(done: int, case: Named, outcome: Outcome) -> None:
        if not outcome.passed:
            print(f"{case.name}: {outcome.cause}: {outcome.reason}", flush=True)
        if done % 100 == 0 or done == total:
            print(f"{done} of {total}, {time.monotonic() - started:.0f} s", flush=True)

    return report


if __name__ == "__main__":
    sys.exit(main())
