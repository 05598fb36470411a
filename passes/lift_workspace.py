"""Turns intermediate tensors of ``main`` into parameters, which share one workspace.

The runtime makes the workspace and its tensors once, so that a run neither allocates nor frees anything for
them. Results that are not small, which outlive a run, and tensors with symbolic extents stay as they are.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import tvm
from tvm import ir, relax, tirx

from ..runtime.signature import ALIGNMENT, PlacedTensor
from .lift_constants import INPUTS, MAIN
from .operator_name import operator_name
from .place_blocks import Block, place_blocks
from .tensor_types import bytes_of, element_type, static_shape

_ALLOCATE = "relax.builtin.alloc_tensor"
_RESHAPE = "relax.reshape"
_VIEW = "relax.memory.view"
_COPY = "runtime.TVMTensorCopyFromTo"
# Types by which TVM and NumPy mean the same.
_COMMON_TYPES = frozenset(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
_COMMON_TYPES |= {"bool", "float16", "bfloat16", "float32", "float64"}
# Copying a result of at most so many bytes out of the workspace takes less time than allocating a tensor in
# every run and making it the caller's array.
_SMALL_RESULT = 2**18


@dataclass(frozen=True)
class PlannedModule:
    """A module some of whose intermediate tensors and results are in a workspace.

    Attributes:
        module: its ``main`` takes the tensors of ``workspace`` after its other parameters.
        workspace: where they lie.
        results: for each result the index in ``workspace`` of the tensor that it is, or None. Empty where
            nothing is in the workspace.
    """

    module: tvm.IRModule
    workspace: tuple[PlacedTensor, ...]
    results: tuple[int | None, ...]


@dataclass
class _Allocation(Block):
    """Memory in use from one binding of ``main`` to another, which are numbered.

    Attributes:
        tensors: the variables that become parameters, the allocation's own and views of it or of parts, with
            their offsets in bytes.
        escapes: whether something other than a kernel gets hold of it.
    """

    tensors: dict[relax.Var, int] = field(default_factory=dict)
    escapes: bool = False


def lift_workspace(mod: tvm.IRModule) -> PlannedModule:
    """Every tensor of fixed shape that only kernels see becomes a parameter of ``main``; so do small results.

    Args:
        mod: after ``lower_kernel_calls``: kernels take their results as arguments, and no variable is another
            name of a tensor.
    """
    main = mod[MAIN]
    uses = _Uses(mod)
    allocations = uses.allocations(main.body)
    if not allocations:
        return PlannedModule(mod, (), ())
    tensors = [
        (tensor, PlacedTensor(offset + part, tuple(static_shape(tensor.ty) or ()), element_type(tensor)))
        for allocation, offset in zip(allocations, place_blocks(allocations), strict=True)
        for tensor, part in allocation.tensors.items()
    ]
    lifted = {tensor: index for index, (tensor, _) in enumerate(tensors)}
    attrs = {INPUTS: len(main.params), **(dict(main.attrs) if main.attrs else {})}
    planned = relax.Function(
        [*main.params, *(tensor for tensor, _ in tensors)],
        _without(main.body, lifted),
        main.ret_ty,
        main.is_pure,
        attrs=ir.make_node("ir.DictAttrs", **attrs),
    )
    module = tvm.IRModule(dict(mod.functions), attrs=mod.attrs)
    module.update_func(module.get_global_var(MAIN), planned)
    results = tuple(lifted.get(result) for result in uses.elements_of(main.body.body))
    return PlannedModule(relax.transform.Normalize()(module), tuple(place for _, place in tensors), results)


class _Uses:
    """Finds out what uses the tensors of ``main``, and when."""

    def __init__(self, mod: tvm.IRModule) -> None:
        self._mod = mod
        self._now = 0
        self._allocations: list[_Allocation] = []
        self._allocation_of: dict[relax.Var, _Allocation] = {}
        self._tuples: dict[relax.Var, relax.Tuple] = {}

    def allocations(self, body: relax.SeqExpr) -> list[_Allocation]:
        """What can be lifted, in the order of the allocations."""
        self._visit_bindings(body)
        self._now += 1
        for result in self.elements_of(body.body):
            self._return(result)
        return [allocation for allocation in self._allocations if not allocation.escapes]

    def elements_of(self, results: relax.Expr) -> list[relax.Expr]:
        """The elements of the tuple that ``main`` returns."""
        fields = self._tuples.get(results, results)
        return list(fields.fields) if isinstance(fields, relax.Tuple) else [fields]

    def _visit_branch(self, branch: relax.SeqExpr) -> None:
        self._visit_bindings(branch)
        self._give_away(branch.body)

    def _visit_bindings(self, sequence: relax.SeqExpr) -> None:
        for block in sequence.blocks:
            for binding in block.bindings:
                self._now += 1
                self._visit(binding)

    def _visit(self, binding: relax.Binding) -> None:
        value = binding.value
        if isinstance(value, relax.If):
            self._give_away(value.cond)
            self._visit_branch(value.true_branch)
            self._visit_branch(value.false_branch)
        elif isinstance(value, relax.Tuple):
            self._tuples[binding.var] = value
        elif isinstance(binding, relax.MatchCast) or not isinstance(value, ir.Call):
            self._give_away(value)
        elif operator_name(value) == _ALLOCATE:
            self._allocate(binding.var)
        elif operator_name(value) == _RESHAPE:
            self._view(binding.var, value)
        elif operator_name(value) == _VIEW:
            self._view(binding.var, value, int(getattr(value.args[3], "value", value.args[3])))
        elif self._keeps_nothing(value.op):
            self._touch(value)
        else:
            self._give_away(value)

    def _allocate(self, tensor: relax.Var) -> None:
        if _is_fixed(tensor):
            nbytes = bytes_of(tensor.ty)
            allocation = _Allocation(-(-nbytes // ALIGNMENT) * ALIGNMENT, self._now, self._now, {tensor: 0})
            self._allocations.append(allocation)
            self._allocation_of[tensor] = allocation

    def _view(self, view: relax.Var, call: ir.Call, offset: int = 0) -> None:
        tensor = call.args[0]
        if not _is_fixed(view):
            self._give_away(call)
        elif allocation := self._allocation_of.get(tensor):
            self._touch(tensor)
            self._allocation_of[view] = allocation
            allocation.tensors[view] = allocation.tensors[tensor] + offset

    def _keeps_nothing(self, called: relax.Expr) -> bool:
        """Whether what is called is done with its arguments when it returns."""
        if isinstance(called, relax.ExternFunc):
            return str(called.global_symbol) == _COPY
        return isinstance(called, ir.GlobalVar) and isinstance(self._mod[called], tirx.PrimFunc)

    def _touch(self, value: relax.Expr) -> None:
        for allocation in self._allocations_in(value):
            allocation.last = self._now

    def _return(self, result: relax.Expr) -> None:
        allocation = self._allocation_of.get(result)
        if allocation and allocation.nbytes <= _SMALL_RESULT:
            self._touch(result)
        else:
            self._give_away(result)

    def _give_away(self, value: relax.Expr) -> None:
        for allocation in self._allocations_in(value):
            allocation.escapes = True

    def _allocations_in(self, value: relax.Expr) -> Iterator[_Allocation]:
        for variable in relax.analysis.free_vars(value):
            if variable in self._tuples:
                yield from self._allocations_in(self._tuples[variable])
            elif variable in self._allocation_of:
                yield self._allocation_of[variable]


def _without(sequence: relax.SeqExpr, lifted: Container[relax.Var]) -> relax.SeqExpr:
    """The sequence without the bindings of the variables that are parameters now."""
    blocks = [
        relax.BindingBlock(
            [_pruned(binding, lifted) for binding in block.bindings if binding.var not in lifted]
        )
        for block in sequence.blocks
    ]
    return relax.SeqExpr(blocks, sequence.body)


def _pruned(binding: relax.Binding, lifted: Container[relax.Var]) -> relax.Binding:
    value = binding.value
    if not isinstance(value, relax.If):
        return binding
    branches = (_without(branch, lifted) for branch in (value.true_branch, value.false_branch))
    return relax.VarBinding(binding.var, relax.If(value.cond, *branches))


def _is_fixed(tensor: relax.Var) -> bool:
    ty = tensor.ty
    is_static = isinstance(ty, relax.TensorType) and static_shape(ty) is not None
    return is_static and element_type(tensor) in _COMMON_TYPES
