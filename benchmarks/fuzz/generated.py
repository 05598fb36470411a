"""The models that NNSmith made, each a file with its inputs and what is expected of it beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class GeneratedModel:
    """A model of ``generate_models.py``.

    Attributes:
        path: of the ONNX file.
    """

    path: Path

    @property
    def name(self) -> str:
        """The seed, in five digits."""
        return self.path.stem

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The model."""
        return onnx.load(self.path)

    @property
    def feed(self) -> Arrays:
        """A value for every input that the model has kept: the exporter leaves out the others."""
        arrays = _read(self.path.with_suffix(".npz"))
        return {value.name: arrays[value.name] for value in self.model.graph.input}

    @property
    def torch_outputs(self) -> Arrays:
        """What PyTorch computes, from before the model was exported."""
        return _read(self.path.with_suffix(".torch.npz"))

    @property
    def expected_path(self) -> Path:
        """Where the reference's results are kept."""
        return self.path.with_suffix(".expected.npz")

    @property
    def expected(self) -> Arrays:
        """The reference's results once they are kept, until then PyTorch's."""
        return _read(self.expected_path) if self.expected_path.exists() else self.torch_outputs


def generated_models(folder: Path, first: int, count: int) -> list[GeneratedModel]:
    """Those of a range of seeds that exist."""
    paths = (folder / f"{seed:05}.onnx" for seed in range(first, first + count))
    return [GeneratedModel(path) for path in paths if path.with_suffix(".npz").exists()]


def _read(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
