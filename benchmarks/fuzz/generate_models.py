"""Makes random models with NNSmith; runs in an environment of its own, without relaxc.

Liu et al., "NNSmith: Generating Diverse and Valid Test Cases for Deep Learning Compilers", ASPLOS 2023.
Run as ``python generate_models.py FOLDER --first 0 --count 100 --nodes 10``: for every seed there will be a
model, ``00000.onnx``, what PyTorch computes with it, ``00000.torch.npz``, and the inputs, ``00000.npz``.
Files that exist are left as they are; a seed of which NNSmith makes nothing gives none.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

# A solver may search for long; another seed does as well.
_SECONDS_A_MODEL = 60


def main() -> int:
    """Parse, generate; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=100, help="how many seeds")
    parser.add_argument("--nodes", type=int, default=10, help="operators in a model, at most")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    _prepare_libraries()
    operators = _operators(arguments.folder)
    running: set[int] = set()
    for seed in range(arguments.first, arguments.first + arguments.count):
        if (arguments.folder / f"{seed:05}.npz").exists():
            continue
        if len(running) == arguments.jobs:
            running.discard(os.wait()[0])
        running.add(_fork(seed, arguments.nodes, operators, arguments.folder))
    for _ in running:
        os.wait()
    return 0


def _prepare_libraries() -> None:
    """NNSmith calls the exporter of PyTorch that was the only one at its time, and counts on silence."""
    torch.set_num_threads(1)
    torch.onnx.export = functools.partial(torch.onnx.export, dynamo=False)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def _operators(folder: Path) -> list[Any]:
    """NNSmith's operators with the types that PyTorch exports, found out once and kept in the folder."""
    from nnsmith import narrow_spec
    from nnsmith.materialize.onnx import ONNXModelCPU

    narrow_spec.NNSMITH_CACHE_DIR = str(folder / "operators")
    with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
        operators: list[Any] = narrow_spec.auto_opset(ONNXModelCPU, None)
    return operators


def _fork(seed: int, nodes: int, operators: list[Any], folder: Path) -> int:
    """Generates one model in a process that may crash or hang; returns its number."""
    child = os.fork()
    if child:
        return child
    signal.alarm(_SECONDS_A_MODEL)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    try:
        _generate(seed, nodes, operators, folder)
    except Exception as error:
        print(f"seed {seed}: {type(error).__name__}: {str(error)[:200]!r}", file=sys.stderr)
    finally:
        os._exit(0)


def _generate(seed: int, nodes: int, operators: list[Any], folder: Path) -> None:
    from nnsmith.graph_gen import model_gen
    from nnsmith.materialize.onnx import ONNXModelCPU

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    generated = model_gen(
        opset=operators, method="symbolic-cinit", seed=seed, max_elem_per_tensor=1 << 14, max_nodes=nodes
    )
    model = ONNXModelCPU.from_gir(generated.make_concrete())
    model.refine_weights()
    oracle = model.make_oracle()
    onnx.save(model.native_model, folder / f"{seed:05}.onnx")
    np.savez(folder / f"{seed:05}.torch.npz", **oracle.output)
    # The inputs come last: where they are, all is complete.
    incoming = folder / f"{seed:05}.incoming.npz"
    np.savez(incoming, **oracle.input)
    incoming.replace(folder / f"{seed:05}.npz")


if __name__ == "__main__":
    sys.exit(main())
