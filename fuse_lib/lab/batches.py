"""Minibatches as indices into tensors that lie on the device."""

from __future__ import annotations

import torch
from torch import Tensor

_ORDER = 1_000_000  # added to the seed, so that the order of the rows is not drawn from the initial weights' numbers


class Batches:
    """Rows in random order, pass after pass, without replacement in a pass.

    x: (N, …) and y: (N,), on one device. seed: decides the order, the same on every device.

    What is left of a pass and is less than a batch is dropped. The batch may change its size from one call to the next:
    the pass goes on where it was.

    >>> batches = Batches(torch.arange(5.0), torch.arange(5), seed=0)
    >>> one, two = batches.draw(2)[1], batches.draw(2)[1]  # the fifth row is dropped
    >>> len(set(one.tolist() + two.tolist()))
    4
    >>> batches.draw(5)[1]  # all rows: as they are
    tensor([0, 1, 2, 3, 4])
    """

    def __init__(self, x: Tensor, y: Tensor, seed: int) -> None:
        self.x, self.y = x, y
        self._generator = torch.Generator().manual_seed(seed + _ORDER)
        self._order, self._at = torch.empty(0, dtype=torch.long), 0

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """The next batch, (rows, …) and (rows,). All N rows are no draw: they come in their own order."""
        if rows == len(self.x):
            return self.x, self.y
        if self._at + rows > len(self._order):
            self._order = torch.randperm(len(self.x), generator=self._generator).to(self.x.device)
            self._at = 0
        index = self._order[self._at : self._at + rows]
        self._at += rows
        return self.x[index], self.y[index]  # index_select is no faster, and would lose channels_last
