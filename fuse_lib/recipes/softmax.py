"""L2-regularised softmax regression with its cost and progress counted: what the recipes are compared on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class Spent(Exception):
    """The budget does not allow the evaluation that was asked for; or the smallest gap is reached."""


class Softmax:
    """f(W, b) = mean cross-entropy of softmax(Wx + b) + λ/2 ‖W‖², the bias free.

    model: a net in the place of Wx + b; then the penalty is on all its matrices and kernels, and its own start counts.
    x: (n, d) float32 or float64, pixels in [0, 1]. y: (n,) labels. minimum: f*; None: unknown, gaps are losses.
    penalty: λ. passes: the budget, in gradient evaluations of all rows; inf: none. least: the gap that ends a run.

    Attributes:
        params: W (classes, d) and b (classes,), which start at zero.
        samples: rows of all gradient evaluations so far. passes_spent: the same over n.
        curve: (passes, gap) wherever f on all rows became known.

    >>> f = Softmax(torch.eye(3), torch.arange(3), minimum=0.5)
    >>> loss = f.batch_closure(torch.tensor([0, 1]))
    >>> round(loss.item(), 4), f.samples
    (1.0986, 2)
    """

    def __init__(
        self, x: Tensor, y: Tensor, minimum=None, penalty=1e-4, passes=math.inf, least=1e-5, model=None
    ) -> None:
        self.x, self.y, self.minimum, self.penalty, self.least = x, y, minimum, penalty, least
        self.rows = len(x)
        self.budget = passes * self.rows
        if model is None:
            model = torch.nn.Linear(x.shape[1], int(y.max()) + 1, dtype=x.dtype)
            with torch.no_grad():
                model.weight.zero_()
                model.bias.zero_()
        self.model, self.params = model, list(model.parameters())
        self.samples, self.curve = 0, []
        self._batch: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def passes_spent(self) -> float:
        return self.samples / self.rows

    def batch_closure(self, rows: Tensor | None = None) -> Tensor:
        """The loss on these rows (None: all), 0-d; its gradient in .grad."""
        size = self.rows if rows is None else len(rows)
        if self.samples + size > self.budget:
            raise Spent
        self.samples += size
        x, y = (self.x, self.y) if size == self.rows else self._taken(rows)
        self.model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = self._value(x, y)
            loss.backward()
        if size == self.rows:
            self.note(loss.item())
        return loss.detach()

    def _taken(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The last batch is kept, for it is often wanted again."""
        if self._batch is None or self._batch[0] is not rows:
            self._batch = rows, self.x[rows], self.y[rows]
        return self._batch[1:]

    @torch.no_grad()
    def measure(self) -> float:
        """The gap here, which costs nothing."""
        return self.note(self._value(self.x, self.y).item())

    def _value(self, x: Tensor, y: Tensor) -> Tensor:
        penalty = sum(p.square().sum() for p in self.params if p.dim() > 1)
        return F.cross_entropy(self.model(x), y) + self.penalty / 2 * penalty

    def note(self, loss: float) -> float:
        gap = loss if self.minimum is None else (loss - self.minimum) / self.minimum
        self.curve.append((self.passes_spent, gap))
        if gap <= self.least:
            raise Spent
        return gap

    def reached(self, gap: float) -> float:
        """Passes until the gap was at most this; NaN: never."""
        return next((passes for passes, g in self.curve if g <= gap), math.nan)


def adam(f: Softmax, lr: float, passes: float, batch: int, seed: int) -> torch.optim.Adam:
    """torch's Adam for so many passes on minibatches, its rate falling to 0 along a cosine. Returns the optimizer."""
    opt = torch.optim.Adam(f.params, lr)
    steps = max(1, round(passes * (f.rows // batch)))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    for rows in minibatches(f.rows, batch, steps, seed):
        opt.step(lambda rows=rows: f.batch_closure(rows))
        schedule.step()
    f.measure()
    return opt


def minibatches(n: int, batch: int, steps: int, seed: int):
    """Rows in random order, pass after pass, without replacement in a pass; what is left of one is dropped."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        at = step % (n // batch) * batch
        if at == 0:
            order = torch.randperm(n, generator=generator)
        yield order[at : at + batch]
