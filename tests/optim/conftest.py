"""What tests of the curvature memory and of convergence share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from fuse_lib.optim.history import History, Verdict


@dataclass
class Memory:
    """A History, driven as one L-BFGS iteration drives it: all products are taken first, then the pair is added.

    of_g, gg: products of the last gradient with the stored rows and with itself.
    """

    history: History
    of_g: list[float] = field(init=False)
    gg: float = field(init=False)

    def look(self, g: Tensor, s: Tensor | None = None, y: Tensor | None = None) -> Verdict | None:
        """Fold in a pair, (d,) each, at a new gradient, (d,)."""
        h = self.history
        if s is not None and y is not None:
            h.stage((s, torch.zeros_like(s)), (y, torch.zeros_like(y)))
        self.of_g = h.padded(h.times(g).tolist())
        self.gg = float(g.dot(g))
        if not h.staged:
            return None
        s, y = h.staged_vectors()
        of_s, of_y = (h.padded(h.times(v).tolist()) for v in (s, y))
        return h.add([float(dot) for dot in h.dots()], self.of_g, of_y, of_s if h.damped else None)

    def collect(self, s: Tensor, y: Tensor) -> None:
        """A pair of the first phase."""
        self.history.stage((s, torch.zeros_like(s)), (y, torch.zeros_like(y)))
        self.history.keep_unmeasured()

    def direction(self, g: Tensor) -> tuple[Tensor, float]:
        """−Hg, (d,), and its slope, at the gradient that was looked at."""
        found = self.history.direction(self.of_g, self.gg)
        return self.history.combine(found, g).clone(), found.slope

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The stored pairs, oldest first."""
        return [(self.history.S[i], self.history.Y[i]) for i in self.history.slots]


@dataclass(frozen=True)
class Quadratic:
    """f = ½ xᵀAx in d variables with eigenvalues from 1 to `condition`, and a walk on it."""

    d: int = 60
    condition: float = 1e4
    seed: int = 0

    def hessian(self) -> Tensor:
        q, _ = torch.linalg.qr(self.random(self.d))
        return (q * torch.logspace(0, torch.tensor(self.condition).log10().item(), self.d, dtype=torch.float64)) @ q.T

    def random(self, *shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(1000 * self.seed + seed)
        return torch.randn(*shape, self.d, generator=generator, dtype=torch.float64)

    def walk(self, steps: int, dtype: torch.dtype, negative_every: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(s, y, the gradient at the step's end). Each negative_every-th pair has negative curvature.

        Where the Hessian varies, sᵢᵀyⱼ is not sⱼᵀyᵢ. A skew part, which leaves sᵀy as it is, stands for that.
        """
        a = self.hessian()
        skew = self.random(self.d, seed=3)
        a = a + 10 * (skew - skew.T)
        x = self.random(seed=1)
        for k, s in enumerate(self.random(steps, seed=2), 1):
            x, y = x + s, a @ s
            if negative_every and k % negative_every == 0:
                y = -y
            yield s.to(dtype), y.to(dtype), (a @ x).to(dtype)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A second thread only slows small vectors down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_memory():
    """size, numel, dtype, history_dtype, damped → Memory."""

    def make(size=10, numel=60, dtype=torch.float64, history_dtype=None, damped=False) -> Memory:
        return Memory(History(size, numel, dtype, torch.device("cpu"), history_dtype, damped))

    return make
