"""Products with constants go by Strassen's algorithm where they are told to, and can."""

from __future__ import annotations

import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import relax as R

from relaxc.passes.compute.strassen import LEFT, RESULT, RIGHT, transform_weight
from relaxc.passes.lower_strassen_matmul import MatmulExtents, lower_strassen_matmul, never_strassen
from tests.passes.module_summary import assert_same_results, normal, operators

BLOCK = 4
WEIGHT, NARROW = normal(16, 24), normal(16, 12)


@I.ir_module
class Product:
    @R.function
    def main(x: R.Tensor((3, 6, 16), "float32")):
        with R.dataflow():
            a = R.matmul(x, R.const(WEIGHT))
            r = (a,)
            R.output(r)
        return r


@I.ir_module
class OtherProducts:
    @R.function
    def main(
        x: R.Tensor((5, 16), "float32"),
        y: R.Tensor(("rows", 16), "float32"),
        z: R.Tensor((6, 16), "float32"),
        w: R.Tensor((16, 24), "float32"),
    ):
        with R.dataflow():
            a = R.matmul(x, R.const(WEIGHT))
            b = R.matmul(y, R.const(WEIGHT))
            c = R.matmul(z, R.const(NARROW))
            d = R.matmul(z, w)
            r = (a, b, c, d)
            R.output(r)
        return r


def lowered(module: tvm.IRModule) -> tvm.IRModule:
    return lower_strassen_matmul(module, BLOCK, lambda _extents: True)


def test_a_lowered_product_computes_the_same() -> None:
    after = lowered(Product)
    assert operators(after) == ["strassen_matmul"]
    assert_same_results(after, Product, normal(3, 6, 16))


def test_the_choice_sees_the_extents() -> None:
    seen = []

    def choose(extents: MatmulExtents) -> bool:
        seen.append(extents)
        return False

    lower_strassen_matmul(Product, BLOCK, choose)
    assert seen == [MatmulExtents(batch=3, rows=6, inner=16, columns=24)]


def test_without_a_choice_a_product_stays_direct() -> None:
    tvm.ir.assert_structural_equal(lower_strassen_matmul(Product, BLOCK, never_strassen), Product)


def test_odd_symbolic_and_narrow_extents_and_activations_stay_direct() -> None:
    tvm.ir.assert_structural_equal(lowered(OtherProducts), OtherProducts)


def test_the_factors_make_a_product() -> None:
    a, b = (np.random.default_rng(seed).standard_normal((2, 2)) for seed in (0, 1))
    products = (LEFT @ a.ravel()) * (RIGHT @ b.ravel())
    np.testing.assert_allclose((RESULT @ products).reshape(2, 2), a @ b, rtol=1e-12, atol=1e-12)


def test_weights_lie_in_panels_of_all_products() -> None:
    transformed = transform_weight(WEIGHT, BLOCK)
    assert transformed.shape == (3, 7, 8, BLOCK)
    first, last = WEIGHT[:8, 4:8].astype(np.float64), WEIGHT[8:, 16:20].astype(np.float64)
    np.testing.assert_array_equal(transformed[1, 0], (first + last).astype(np.float32))
