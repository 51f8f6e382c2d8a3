"""What a run minimises and what is measured of it: the model on data, with every gradient evaluation counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEASURED = 512  # rows at once where something is measured: no more memory than a step's
FIRST = 500  # test rows that FUSE's reference code takes its accuracy from


class Spent(Exception):
    """The budget does not allow the evaluation that was asked for."""


class Objective:
    """Mean cross-entropy of a model plus λ/2 ‖w‖², evaluated on batches, and its cost.

    budget: in samples; inf: none. A closure that would exceed it raises `Spent` instead.
    evals: gradient evaluations so far. samples: the rows they were on.
    """

    def __init__(self, model: nn.Module, budget: float, l2: float, chunk: int) -> None:
        self.model, self.budget, self.l2, self.chunk = model, budget, l2, chunk
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.evals = self.samples = 0

    def closure(self, x: Tensor, y: Tensor):
        """() → the objective on these rows, 0-d, its gradient in the parameters' .grad."""
        rows = len(x)

        def evaluate() -> Tensor:
            if self.samples + rows > self.budget:
                raise Spent
            self.model.zero_grad(set_to_none=True)
            if rows <= self.chunk:
                loss = F.cross_entropy(self.model(x), y)
                if self.l2:
                    loss = loss + self.penalty()
                loss.backward()
            else:
                loss = self._in_pieces(x, y)
            self.evals, self.samples = self.evals + 1, self.samples + rows
            return loss.detach()

        return evaluate

    def _in_pieces(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=x.device)  # many pieces, summed without loss
        for piece, labels in self._pieces(x, y, self.chunk):
            loss = F.cross_entropy(self.model(piece), labels, reduction="sum") / len(x)
            loss.backward()
            total += loss.detach()
        if self.l2:
            penalty = self.penalty()
            penalty.backward()
            total += penalty.detach()
        return total.to(loss.dtype)

    def penalty(self) -> Tensor:
        """λ/2 ‖w‖² over all parameters, 0-d."""
        return self.l2 / 2 * sum(p.square().sum() for p in self.params)

    def train_loss(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        """(objective, norm of its gradient) on these rows, in evaluation mode. Costs no samples, touches no .grad."""
        loss = torch.zeros((), dtype=torch.float64, device=x.device)
        grads = [torch.zeros_like(p) for p in self.params]
        with _evaluating(self.model):
            for piece, labels in self._pieces(x, y, MEASURED):
                part = F.cross_entropy(self.model(piece), labels, reduction="sum") / len(x)
                loss += part.detach()
                torch._foreach_add_(grads, torch.autograd.grad(part, self.params))
        if self.l2:
            penalty = self.penalty()
            loss += penalty.detach()
            torch._foreach_add_(grads, torch.autograd.grad(penalty, self.params))
        norm = torch.stack([g.double().square().sum() for g in grads]).sum().sqrt()
        return loss.item(), norm.item()

    @torch.no_grad()
    def test(self, x: Tensor, y: Tensor) -> tuple[float, float, float]:
        """(cross-entropy, accuracy, accuracy on the FIRST among them) on these rows, in evaluation mode."""
        loss = torch.zeros((), dtype=torch.float64, device=x.device)
        right = []
        with _evaluating(self.model):
            for piece, labels in self._pieces(x, y, MEASURED):
                scores = self.model(piece)
                loss += F.cross_entropy(scores, labels, reduction="sum")
                right.append(scores.argmax(1) == labels)
        right = torch.cat(right)
        return loss.item() / len(x), right.sum().item() / len(x), right[:FIRST].sum().item() / len(right[:FIRST])

    @contextlib.contextmanager
    def fresh_norm(self, x: Tensor) -> Iterator[None]:
        """Within the block batch norm has the means and variances of these rows at the present parameters.

        They are averages over pieces of MEASURED rows. Afterwards all is as it was.
        """
        layers = [m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        before = [(m.momentum, [b.clone() for b in m.buffers()]) for m in layers]
        training = self.model.training
        try:
            for m in layers:
                m.reset_running_stats()
                m.momentum = None  # torch's name for the mean of all that come
            with torch.no_grad():
                self.model.train()
                for piece in x.split(MEASURED) if layers else ():
                    self.model(piece)
            self.model.train(training)
            yield
        finally:
            self.model.train(training)
            for m, (momentum, buffers) in zip(layers, before, strict=True):
                m.momentum = momentum
                for buffer, old in zip(m.buffers(), buffers, strict=True):
                    buffer.copy_(old)

    def _pieces(self, x: Tensor, y: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(x.split(rows), y.split(rows), strict=True)


class _evaluating:
    """The model in evaluation mode within the block, and as it was after it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = self.model.training
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.before)
