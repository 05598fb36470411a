"""Puts the stores of shape functions in order, so that the same model gives the same code.

TVM's ``VMShapeLower`` makes functions that compute a model's extents, each into a slot of its own, from slots
that hold dimensions. It takes them in the order of a hash table of addresses, which differs between runs.
"""

from __future__ import annotations

import tvm
from tvm import tirx

_HOST = "tirx.is_host_func"


def order_shape_functions() -> tvm.transform.Pass:
    """The pass: stores go by the number of their slot."""
    return tirx.transform.prim_func_pass(_order, opt_level=0, name="OrderShapeFunctions")


def _order(function: tirx.PrimFunc, _mod: tvm.IRModule, _context: object) -> tirx.PrimFunc:
    is_host = bool(function.attrs and function.attrs.get(_HOST))
    stores = list(function.body.seq) if isinstance(function.body, tirx.SeqStmt) else []
    if not is_host or not all(isinstance(store, tirx.BufferStore) for store in stores):
        return function
    ordered = sorted(stores, key=lambda store: int(store.indices[0]))
    return function.with_body(tirx.SeqStmt(ordered)) if ordered else function
