"""Sound model files, from which broken ones are made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from relaxc.compiler.published_models import PUBLISHED_MODELS, fetch

from ..conformance.cases import SUITES, load_cases

# The suites that onnx carries as files; and of the models that it makes, those with graphs inside of nodes
# and with unusual types.
_SUITES_OF_FILES = SUITES[1:]
_NODES = frozenset((
    "test_if", "test_if_seq", "test_loop11", "test_loop13_seq", "test_scan9_sum",
    "test_lstm_with_peepholes", "test_resize_upsample_sizes_nearest", "test_reshape_extended_dims",
    "test_qlinearmatmul_2D_uint8_float32", "test_gridsample_bilinear",
    "test_nonmaxsuppression_suppress_by_IOU", "test_einsum_batch_matmul", "test_attention_4d",
    "test_optional_get_element_sequence", "test_cast_FLOAT_to_INT4", "test_constantofshape_float_ones",
    "test_unique_sorted_with_axis",
))  # fmt: skip

# Real models that compile in a few seconds: the others would use up the time limit even if nothing is wrong.
_PUBLISHED = ("ppocr_v2_cls", *(name for name in PUBLISHED_MODELS if name.startswith("silero")))

# One of them for so many of the small files.
_SMALL_FOR_EACH_PUBLISHED = 3


@dataclass(frozen=True)
class SoundFile:
    """A file that compiles.

    Attributes:
        name: of the model.
        data: the file's content.
    """

    name: str
    data: bytes


def load_corpus(only_installed: bool) -> list[SoundFile]:
    """Exported models that come with onnx, and real ones out of wheels, always in the same order.

    Args:
        only_installed: leave out those that would have to be downloaded.

    Raises:
        RelaxcError: a model cannot be downloaded.
    """
    cases = [case for case in load_cases() if case.suite in _SUITES_OF_FILES or case.name in _NODES]
    small = [SoundFile(case.name, case.model.SerializeToString()) for case in cases]
    if only_installed:
        return small
    published = [SoundFile(name, fetch(name).read_bytes()) for name in _PUBLISHED]
    groups = [
        small[start : start + _SMALL_FOR_EACH_PUBLISHED]
        for start in range(0, len(small), _SMALL_FOR_EACH_PUBLISHED)
    ]
    return [
        file
        for group, file in zip(groups, itertools.cycle(published), strict=False)
        for file in (*group, file)
    ]
