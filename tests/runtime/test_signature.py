"""The signature as JSON text."""

from __future__ import annotations

import dataclasses
import json

import pytest

from relaxc.runtime.signature import KernelSpec, PlacedTensor, Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("x", ("batch", 3, "height // 2"), "float32"), TensorSpec("scalar", (), "bool")),
    outputs=(TensorSpec("ÿ", (0,), "bfloat16"), TensorSpec("z", (), "bool")),
    weights=(PlacedTensor(64, (2, 3), "int8"),),
    kernels=(KernelSpec("matmul", "matmul", 1, 12, None),),
    target='{"kind": "llvm"}',
    cpu_features=("avx2", "fma"),
    versions={"tvm": "0.27.0", "relaxc": "0.1.0"},
    source_hash="ab",
    precision="fp32",
    workspace=(PlacedTensor(0, (4, 0), "bool"), PlacedTensor(128, (), "bfloat16")),
    results=(1, None),
    shared=(1,),
)


def test_it_comes_back_as_it_was() -> None:
    assert Signature.from_json(SIGNATURE.to_json()) == SIGNATURE


def test_the_same_signature_gives_the_same_text() -> None:
    assert Signature.from_json(SIGNATURE.to_json()).to_json() == SIGNATURE.to_json()


def test_a_signature_of_an_earlier_version_has_no_workspace() -> None:
    fields = json.loads(SIGNATURE.to_json())
    del fields["workspace"], fields["results"], fields["shared"]
    earlier = Signature.from_json(json.dumps(fields))
    assert earlier == dataclasses.replace(SIGNATURE, workspace=(), results=(), shared=())


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        ('"offset":128', '"offset":-64'),
        ('"offset":128', '"offset":100'),
        ('"shape":[4,0]', '"shape":[4,-1]'),
        ('"results":[1,null]', '"results":[2,null]'),
        ('"results":[1,null]', '"results":[-1,null]'),
        ('"results":[1,null]', '"results":[1]'),
    ],
)
def test_places_that_cannot_be_are_refused(written: str, damaged: str) -> None:
    text = SIGNATURE.to_json()
    assert written in text
    with pytest.raises(ValueError, match=r"tensor|result"):
        Signature.from_json(text.replace(written, damaged))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"inputs":1}', SIGNATURE.to_json().replace("target", "goal")]
)
def test_foreign_text_is_refused(text: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Signature.from_json(text)
