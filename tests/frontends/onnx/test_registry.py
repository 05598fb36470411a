"""Which operators have a converter, in which versions: all that compute with numbers."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import pytest

from relaxc.frontends.onnx import importer  # noqa: F401 - fills the registry
from relaxc.frontends.onnx.function_bodies import has_body
from relaxc.frontends.onnx.load import MIN_OPSET
from relaxc.frontends.onnx.registry import find

WITHOUT = {
    "": {"ImageDecoder", "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"},
    # Dictionaries and strings; and a classifier whose probabilities are found by iteration.
    "ai.onnx.ml": {"CastMap", "CategoryMapper", "DictVectorizer", "SVMClassifier", "ZipMap"},
    "ai.onnx.preview.training": set(),
}


def versions(domain: str) -> Iterator[tuple[str, int]]:
    """Every operator in every version that a supported opset has."""
    least = MIN_OPSET if domain == "" else 1
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == domain:
            version = max(schema.since_version, least)
            if onnx.defs.get_schema(schema.name, version, domain).since_version == schema.since_version:
                yield schema.name, version


@pytest.mark.parametrize("domain", WITHOUT)
def test_every_version_of_every_operator_on_numbers_is_converted(domain: str) -> None:
    missing = {
        name
        for name, version in versions(domain)
        if find(domain, name, version) is None and not has_body(domain, name, version)
    }
    assert missing == WITHOUT[domain]
