"""Real models give ONNX Runtime's results, with dimensions bound and with one artifact for all shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import relaxc
from benchmarks.models.published import FEEDS, load
from relaxc.compiler.published_models import PUBLISHED_MODELS

pytestmark = pytest.mark.models


def test_every_published_model_has_feeds() -> None:
    assert set(FEEDS) == set(PUBLISHED_MODELS)


@pytest.mark.parametrize("name", FEEDS)
def test_bound(name: str, agrees_with_onnxruntime: Callable[..., None]) -> None:
    feeds, model = FEEDS[name], load(name)
    executable = relaxc.compile(model, shapes=feeds.shapes[0], static_inputs=feeds.values)
    noise = [feeds.random(seed) for seed in range(3)]
    label = f"{name} (bound)"
    agrees_with_onnxruntime(label, model, executable, noise)
    agrees_with_onnxruntime(
        label,
        model,
        executable,
        feeds.natural(),
        state=feeds.state,
        first_state=feeds.first_state(),
    )


@pytest.mark.parametrize("name", FEEDS)
def test_one_dynamic_artifact_serves_all_shapes_in_turn(
    name: str, agrees_with_onnxruntime: Callable[..., None]
) -> None:
    feeds, model = FEEDS[name], load(name)
    executable = relaxc.compile(model)
    noise = [feeds.random(seed, shapes) for seed, shapes in enumerate((*feeds.shapes, feeds.shapes[0]))]
    label = f"{name} (dynamic)"
    agrees_with_onnxruntime(label, model, executable, noise)
    agrees_with_onnxruntime(
        label,
        model,
        executable,
        feeds.natural(),
        state=feeds.state,
        first_state=feeds.first_state(),
    )


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_sampling_rate_bound_when_compiling_selects_its_branch(
    rate: int, agrees_with_onnxruntime: Callable[..., None]
) -> None:
    model = load("silero_vad")
    setting = {"sr": np.array(rate, np.int64)}
    window = 576 if rate == 16000 else 288
    executable = relaxc.compile(
        model, shapes={"input": (1, window), "state": (2, 1, 128)}, static_inputs=setting
    )
    random = np.random.default_rng(rate)
    feed = {
        "input": 0.1 * random.standard_normal((1, window), dtype=np.float32),
        "state": 0.1 * random.standard_normal((2, 1, 128), dtype=np.float32),
        **setting,
    }
    assert [spec.name for spec in executable.inputs] == ["input", "state"]
    agrees_with_onnxruntime(f"silero_vad (sr = {rate})", model, executable, [feed])
