"""Standard architectures with random weights give ONNX Runtime's results."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import relaxc
from benchmarks.models.catalogue import ARCHITECTURES
from benchmarks.models.graph_builder import parameter_count


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_full_size_has_the_published_number_of_parameters(name: str) -> None:
    architecture = ARCHITECTURES[name]
    assert parameter_count(architecture.full(1)) == architecture.parameters


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_reduced_size_with_a_fixed_batch(name: str, agrees_with_onnxruntime: Callable[..., None]) -> None:
    architecture = ARCHITECTURES[name]
    model = architecture.reduced(2)
    feeds = [architecture.reduced_feed(2, seed) for seed in range(2)]
    agrees_with_onnxruntime(f"{name} (reduced)", model, relaxc.compile(model), feeds)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_artifact_serves_every_batch_size(
    name: str, agrees_with_onnxruntime: Callable[..., None]
) -> None:
    architecture = ARCHITECTURES[name]
    model = architecture.reduced("batch")
    feeds = [architecture.reduced_feed(batch, batch) for batch in (1, 3, 2, 1)]
    agrees_with_onnxruntime(f"{name} (reduced, any batch)", model, relaxc.compile(model), feeds)


@pytest.mark.models
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_full_size(name: str, agrees_with_onnxruntime: Callable[..., None]) -> None:
    architecture = ARCHITECTURES[name]
    model = architecture.full(1)
    feeds = [architecture.full_feed(1, seed) for seed in range(2)]
    agrees_with_onnxruntime(f"{name} (full size)", model, relaxc.compile(model), feeds)
