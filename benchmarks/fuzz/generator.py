"""Calling NNSmith, which lives in an environment of its own, for models that are not there yet."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .generated import GeneratedModel, generated_models

_SCRIPT = Path(__file__).parent / "generate_models.py"


def generate(
    python: Path, folder: Path, first: int, count: int, nodes: int, jobs: int
) -> list[GeneratedModel]:
    """Models for a range of seeds, of at most so many nodes; those that exist are not made again.

    Args:
        python: the interpreter of the environment with NNSmith.
        folder: where models are kept, a folder for every number of nodes.
        first, count: the seeds.
        nodes: operators in a model, at most; an operator may be exported as several nodes.
        jobs: processes at once.

    Raises:
        SystemExit: the interpreter is missing, or NNSmith does not run.
    """
    if not python.exists():
        raise SystemExit(f"{python}: no such interpreter; make fuzz makes its environment")
    models = folder / f"nodes-{nodes}"
    numbers = {"--first": first, "--count": count, "--nodes": nodes, "--jobs": jobs}
    options = [word for option, number in numbers.items() for word in (option, str(number))]
    # -P: this folder is not on the path, so that its files do not hide modules of the same name.
    if subprocess.run([python, "-P", _SCRIPT, models, *options], check=False).returncode:
        raise SystemExit("NNSmith does not run; its error is above")
    return generated_models(models, first, count)
