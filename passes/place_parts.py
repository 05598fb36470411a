"""Gives the parts of a concatenation their places in the buffer of the whole (see ``parts_in_place.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field

import tvm
from tvm import ir, relax, tirx

from .parts_in_place import JOIN
from .tensor_types import bytes_of, element_type

SETTLE = "settle_view"
"""The function that moves a view's offset into its address."""
_ALLOCATE = ir.Op.get("relax.builtin.alloc_tensor")
_VIEW = ir.Op.get("relax.memory.view")
_COPY = "runtime.TVMTensorCopyFromTo"
_NOTHING = relax.TupleType([])
# The fields of a DLTensor, as TVM's tvm_struct_get and tvm_struct_set number them.
_DATA, _BYTE_OFFSET = 1, 8


def place_parts() -> tvm.transform.Pass:
    """The pass, to be run when kernels write to buffers, and before memory is planned for these.

    A part that has no buffer of its own, or already a place in another whole, is copied. Views are settled:
    kernels take no tensor with an offset from its address.
    """

    def run(mod: tvm.IRModule, _context: object) -> tvm.IRModule:
        functions = [item for item in mod.functions_items() if _has_parts(item[1])]
        if not functions:
            return mod
        builder = relax.BlockBuilder(mod)
        settle = builder.add_func(_settling(), SETTLE)
        for variable, function in functions:
            builder.update_func(variable, _place(function, settle))
        return builder.finalize()

    return tvm.transform.module_pass(run, opt_level=0, name="PlaceParts")


def _place(function: relax.Function, settle: ir.GlobalVar) -> relax.Function:
    blocks = [_PlacedBlock(list(block.bindings)).rewritten(settle) for block in function.body.blocks]
    body = relax.SeqExpr(blocks, function.body.body)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, attrs=function.attrs)


def _has_parts(function: ir.BaseFunc) -> bool:
    """Whether ``function`` joins, or makes views."""
    if not isinstance(function, relax.Function) or not isinstance(function.body, relax.SeqExpr):
        return False
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    values = [getattr(binding, "value", None) for binding in bindings]
    return any(_is_join(value) or (isinstance(value, ir.Call) and value.op == _VIEW) for value in values)


@dataclass
class _PlacedBlock:
    """The bindings of a block, on their way.

    Attributes:
        bindings: in order.
        buffers: variables that stand for a buffer allocated in this block, with the allocated variable.
    """

    bindings: list[relax.Binding]
    buffers: dict[relax.Var, relax.Var] = field(default_factory=dict)

    def rewritten(self, settle: ir.GlobalVar) -> relax.BindingBlock:
        for binding in list(self.bindings):
            value = getattr(binding, "value", None)
            if isinstance(value, ir.Call) and value.op == _ALLOCATE:
                self.buffers[binding.var] = binding.var
            elif isinstance(value, relax.Var) and value in self.buffers:
                self.buffers[binding.var] = self.buffers[value]
            elif _is_join(value):
                self._join(binding)
        return relax.BindingBlock([made for binding in self.bindings for made in _settled(binding, settle)])

    def _join(self, binding: relax.VarBinding) -> None:
        """Puts ``binding``, a call of ``JOIN``, into effect."""
        whole = relax.Var(f"{binding.var.name}_whole", binding.var.ty)
        offset, first, copies, taken = 0, self._position(binding.var), [], set()
        for part in binding.value.args:
            view = _view(whole, part, offset)
            offset += bytes_of(part.ty)
            buffer = self.buffers.get(part)
            if buffer is None or buffer in taken:
                copies += [view, _call(relax.ExternFunc(_COPY), [part, view.var])]
                continue
            taken.add(buffer)
            position = self._position(buffer)
            first = min(first, position)
            self.bindings[position] = relax.VarBinding(buffer, view.value)
        position = self._position(binding.var)
        self.bindings[position : position + 1] = [*copies, relax.VarBinding(binding.var, whole)]
        self.bindings.insert(first, relax.VarBinding(whole, _allocation_like(whole)))
        self.buffers = {var: buffer for var, buffer in self.buffers.items() if buffer not in taken}
        self.buffers |= {whole: whole, binding.var: whole}

    def _position(self, variable: relax.Var) -> int:
        return next(i for i, binding in enumerate(self.bindings) if binding.var.same_as(variable))


def _is_join(value: object) -> bool:
    called = value.op if isinstance(value, ir.Call) else None
    return isinstance(called, relax.ExternFunc) and called.global_symbol == JOIN


def _settled(binding: relax.Binding, settle: ir.GlobalVar) -> list[relax.Binding]:
    """``binding`` and, where it is a view from an offset on, the call that settles it."""
    value = getattr(binding, "value", None)
    if not isinstance(value, ir.Call) or value.op != _VIEW or _number(value.args[3]) == 0:
        return [binding]
    return [binding, _call(settle, [binding.var])]


def _settling() -> tirx.PrimFunc:
    """Of a DLTensor: its byte offset is added to its address, and becomes zero."""
    tensor = tirx.Var("tensor", "handle")

    def get(kind: int, dtype: str) -> tirx.Expr:
        return tirx.call_intrin(dtype, "tirx.tvm_struct_get", tensor, 0, kind)

    def put(kind: int, value: tirx.Expr) -> tirx.Stmt:
        return tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_struct_set", tensor, 0, kind, value))

    offset = get(_BYTE_OFFSET, "uint64")
    address = tirx.call_intrin("handle", "tirx.handle_add_byte_offset", get(_DATA, "handle"), offset)
    stores = [put(_DATA, address), put(_BYTE_OFFSET, tirx.const(0, "uint64"))]
    return tirx.PrimFunc([tensor], tirx.SeqStmt(stores))


def _view(whole: relax.Var, part: relax.Expr, offset: int) -> relax.VarBinding:
    value = relax.op.memory.view(whole, part.ty.shape, element_type(part), offset)
    return relax.VarBinding(relax.Var("part", part.ty), _typed(value, part.ty))


def _call(function: relax.Expr, arguments: list[relax.Expr]) -> relax.VarBinding:
    """A call for its effect alone."""
    return relax.VarBinding(relax.Var("_", _NOTHING), ir.Call(function, arguments, ret_ty=_NOTHING))


def _allocation_like(whole: relax.Var) -> relax.Expr:
    return _typed(relax.op.builtin.alloc_tensor(whole.ty.shape, element_type(whole), 0), whole.ty)


def _typed(call: ir.Call, ty: relax.Type) -> ir.Call:
    return ir.Call(call.op, list(call.args), call.attrs, list(call.ty_args), ret_ty=ty)


def _number(value: relax.Expr) -> int:
    return int(getattr(value, "value", value))
