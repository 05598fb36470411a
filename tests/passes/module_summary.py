"""What a Relax module does, in few words, and what it computes."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import ir, relax


def operators(module: tvm.IRModule, function: str = "main") -> list[str]:
    """The operators and kernels that ``function`` calls, in order; ``relax.`` is left out."""
    found: list[str] = []

    def visit(expr: relax.Expr) -> None:
        if isinstance(expr, ir.Call) and isinstance(expr.op, ir.Op):
            name = expr.op.name.removeprefix("relax.")
            found.append(expr.args[0].name_hint if name == "call_tir" else name)

    relax.analysis.post_order_visit(module[function], visit)
    return found


def results(module: tvm.IRModule, *inputs: np.ndarray) -> list[np.ndarray]:
    """The elements of the tuple that ``main`` returns, by TVM's own lowering."""
    target = tvm.target.Target({"kind": "llvm", "num-cores": 1})
    executable = relax.build(module, target, relax_pipeline=_lowering())
    outputs = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, inputs))
    return [np.asarray(output.numpy()) for output in outputs]


def _lowering() -> tvm.transform.Pass:
    """Without a plan of memory: TVM's lets one branch of an If use what the other has allocated."""
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            transform.LegalizeOps(),
            transform.ToNonDataflow(),
            transform.RemovePurityChecking(),
            transform.CallTIRRewrite(),
            transform.LowerAllocTensor(),
            transform.LowerRuntimeBuiltin(),
            transform.ComputePrimValue(),
            transform.VMShapeLower(),
            transform.AttachGlobalSymbol(),
        ]
    )


def assert_same_results(actual: tvm.IRModule, expected: tvm.IRModule, *inputs: np.ndarray) -> None:
    """Both modules compute the same of ``inputs``, up to rounding."""
    for mine, theirs in zip(results(actual, *inputs), results(expected, *inputs), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bindings(module: tvm.IRModule, function: str = "main") -> list[relax.Expr]:
    """The values that ``function`` binds, block after block."""
    return [binding.value for block in module[function].body.blocks for binding in block.bindings]
