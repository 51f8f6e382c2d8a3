"""Several operations on the same long vectors, with one trip to memory.

On a CPU a vector of millions of numbers does not fit into the cache: each operation fetches it from memory
anew, and that is what takes the time. `in_blocks` cuts the vectors into blocks that do fit and does all operations on
one block before it goes on to the next. On a GPU, or where the vectors are short, there is one block: all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

BLOCK = 1 << 17  # numbers; five vectors of so many float32 are 2.5 MB


def in_blocks(work: Callable[..., Sequence[Tensor]], *vectors: Tensor, whole: bool = False) -> Sequence[Tensor]:
    """work(*vectors) → some 0-d sums over the coordinates, added up over the blocks. Vectors: (d,) or (rows, d) each.

    whole: work uses other vectors of length d as well, so do not cut.
    """
    if whole or vectors[0].numel() <= BLOCK or vectors[0].device.type != "cpu":
        return work(*vectors)
    total = None
    for block in zip(*(v.split(BLOCK, -1) for v in vectors), strict=True):
        sums = work(*block)
        total = sums if total is None else [a + b for a, b in zip(total, sums, strict=True)]
    return total
