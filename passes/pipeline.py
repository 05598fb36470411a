"""The order of the graph passes. A new pass is a file beside this and an entry here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import tvm
from tvm import relax, tirx

from .abstract_extents import abstract_extents
from .assign_layouts import assign_layouts
from .convert_precision import convert_precision
from .drop_weight_checks import drop_weight_checks
from .fold_channel_scale import fold_channel_scale
from .fuse_attention import fuse_attention
from .fuse_separable_conv2d import ChooseChain, fuse_separable_conv2d, never_fused
from .legalize import legalize
from .lower_conv3d import lower_conv3d
from .lower_strassen_matmul import ChooseStrassen, lower_strassen_matmul, never_strassen
from .lower_transposed_conv2d import lower_transposed_conv2d
from .lower_winograd_conv2d import ChooseTiling, always_direct, lower_winograd_conv2d
from .order_operands import order_operands
from .order_shape_functions import order_shape_functions
from .parts_in_place import parts_in_place
from .place_parts import place_parts
from .prepack_matmul import prepack_matmul
from .replace_constant_divisors import replace_constant_divisors
from .rewrite import ModulePass
from .split_batch import GroupImages, all_at_once, split_batch


@dataclass(frozen=True)
class NamedPass:
    """A step from Relax to Relax.

    Attributes:
        name: what ``--disable-pass`` and ``--dump-ir`` call it.
        run: the pass.
        required: whether the steps behind it need it.
    """

    name: str
    run: ModulePass
    required: bool = False


def graph_passes(
    block: int,
    dtype: str = "float32",
    choose_tiling: ChooseTiling = always_direct,
    *,
    depth: int = 2,
    group_images: GroupImages = all_at_once,
    choose_strassen: ChooseStrassen = never_strassen,
    choose_chain: ChooseChain = never_fused,
) -> tuple[NamedPass, ...]:
    """From an imported module to one whose ``main`` calls fused kernels.

    Args:
        block: channels or columns in a block of the packed layouts, a vector's lanes.
        dtype: the type of the values between kernels that are float32 in the module.
        choose_tiling: says which convolutions go by Winograd's method.
        depth: elements that one step of a dot product of bfloat16 takes; products that are summed in float16.
        group_images: says which operators compute a batch in groups of images.
        choose_strassen: says which products go by Strassen's algorithm.
        choose_chain: says which chains around depthwise convolutions become one kernel.
    """
    transform = relax.transform
    narrowing = NamedPass("convert-precision", partial(convert_precision, dtype=dtype), required=True)
    # Sums of float16 have twice the lanes of float32, in which attention computes.
    lanes = block // 2 if dtype == "float16" and depth > 1 else block
    fusing = NamedPass("fuse-attention", partial(fuse_attention, block=lanes, dtype=dtype))
    # With tiles, products by themselves are so much faster that fusing them into vectors' work does not pay.
    tiles = dtype == "bfloat16" and depth > 2
    narrowings = [*([] if tiles else [fusing]), narrowing]
    return (
        NamedPass("eliminate-common-subexpressions", transform.EliminateCommonSubexpr()),
        NamedPass("fold-constants", transform.FoldConstant()),
        NamedPass("order-operands", order_operands),
        NamedPass("lower-transposed-conv2d", partial(lower_transposed_conv2d, block=block)),
        NamedPass("lower-conv3d", lower_conv3d),
        NamedPass("fold-channel-scale", fold_channel_scale),
        NamedPass("replace-constant-divisors", replace_constant_divisors),
        *(narrowings if dtype != "float32" else []),
        NamedPass("split-batch", partial(split_batch, group=group_images)),
        NamedPass("assign-layouts", partial(assign_layouts, block=block, depth=depth)),
        NamedPass("lower-winograd-conv2d", partial(lower_winograd_conv2d, choose=choose_tiling)),
        *([fusing] if dtype == "float32" else []),
        NamedPass(
            "lower-strassen-matmul", partial(lower_strassen_matmul, block=block, choose=choose_strassen)
        ),
        NamedPass("prepack-matmul", partial(prepack_matmul, block=block, depth=depth)),
        NamedPass("parts-in-place", parts_in_place),
        NamedPass("legalize", legalize, required=True),
        NamedPass("fold-legalized-constants", transform.FoldConstant()),
        NamedPass("annotate-patterns", transform.AnnotateTIROpPattern(), required=True),
        NamedPass("fuse-operators", transform.FuseOps()),
        NamedPass("fuse-kernels", transform.FuseTIR(), required=True),
        NamedPass("fuse-separable-conv2d", partial(fuse_separable_conv2d, choose=choose_chain)),
        NamedPass("eliminate-dead-code", transform.DeadCodeElimination()),
        # First: TVM fails to analyse whether some kernels with compound extents are reshapes.
        NamedPass("abstract-extents", abstract_extents),
        NamedPass("reshape-in-place", transform.RewriteDataflowReshape()),
    )


def lower_kernel_calls() -> tvm.transform.Pass:
    """From kernels that return tensors to kernels that fill tensors, which are allocated before."""
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            transform.ToNonDataflow(),
            transform.RemovePurityChecking(),
            transform.CallTIRRewrite(),
            place_parts(),
            transform.CanonicalizeBindings(),
        ]
    )


def lower_to_virtual_machine() -> tvm.transform.Pass:
    """From calls of kernels to the virtual machine's instructions."""
    return tvm.transform.Sequential([lower_kernel_calls(), lower_allocations()])


def lower_allocations() -> tvm.transform.Pass:
    """From kernels that fill tensors to the virtual machine's instructions, with memory planned."""
    transform = relax.transform
    return tvm.transform.Sequential(
        [
            transform.StaticPlanBlockMemory(),
            transform.LowerAllocTensor(),
            transform.KillAfterLastUse(),
            transform.LowerRuntimeBuiltin(),
            transform.ComputePrimValue(),
            transform.VMShapeLower(),
            drop_weight_checks(),
            order_shape_functions(),
            transform.AttachGlobalSymbol(),
            forbid_aliasing(),
        ]
    )


def forbid_aliasing() -> tvm.transform.Pass:
    """Marks every kernel's buffers as distinct.

    TVM's own shape functions lack the mark, and one function without it makes the code generator forget the
    marks of all the others: accumulators then go through memory in each step.
    """

    def mark(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: object) -> tirx.PrimFunc:
        return function.with_attr("tirx.noalias", True)

    return tirx.transform.prim_func_pass(mark, opt_level=0, name="ForbidAliasing")
