"""What the kernels compute, as tensor expressions: the definitions that passes emit and templates schedule.

An anchor stage (the one that holds the arithmetic) carries the block attribute ``WORKLOAD``, by which
the templates of a target recognise it. An anchor is defined on a slightly larger domain than its
result (``TILE_SLACK``), reading clamped, so that a register tile may overrun the edge without a guard
in its inner loop; a crop stage, which the templates inline into the epilogue, restores the extents.
"""

WORKLOAD = "relaxc.workload"
TILE_SLACK = 31
NARROW_LANES = 8
"""Vectors of no more float32 come with few registers, and so with tiles of few rows."""
