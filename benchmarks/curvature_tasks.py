"""Notebook 15's problems: landscapes of known curvature with their starts, and the noise they are seen through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fuse_lib import problems
from fuse_lib.problems import Landscape, NoisyGradient, TanhNet

TUNING, STARTS, NOISY, EXACT = 4, 10, 6, 5  # starts 0 … 3 choose, 4 … 13 are reported; of these so many with noise
FLOOR = 1e-12  # of a gap: below it is rounding


@dataclass(frozen=True)
class Task:
    """A landscape and its starts.

    start: (number of starts, generator) → (n, d) starts. top: the saddle's value, where escaping is timed.
    net: the rows behind a finite sum.
    """

    name: str
    f: Landscape
    start: Callable[[int, torch.Generator], Tensor]
    top: float | None = None
    net: TanhNet | None = None

    def starts(self) -> Tensor:
        """(TUNING + STARTS, d), always the same."""
        return self.start(TUNING + STARTS, torch.Generator().manual_seed(15))

    def gap(self, x: Tensor, x0: Tensor) -> Tensor:
        """(…,) of (…, d): the share of the descent from x0 that is left; no less than FLOOR."""
        with torch.no_grad():
            gap = (self.f(x) - self.f.least) / (self.f(x0) - self.f.least)
            return gap.nan_to_num(math.inf).clamp(FLOOR, 1e6)

    def escaped(self, x0: Tensor) -> Tensor | None:
        """The gap at which half of the way from the saddle down is done."""
        if self.top is None:
            return None
        return 0.5 * (self.top - self.f.least) / (self.f(x0) - self.f.least)


class Rows:
    """The tanh net's loss on random rows, held until `redraw`. Like `NoisyGradient`."""

    def __init__(self, net: TanhNet, rows: int, seed: int) -> None:
        self.net, self.rows, self.draw = net, rows, torch.Generator().manual_seed(seed)
        self.held: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self.held is None or self.held.shape[:-1] != x.shape[:-1]:
            self.held = torch.randint(len(self.net.targets), (*x.shape[:-1], self.rows), generator=self.draw)
        return self.net.loss(x, self.held)

    def redraw(self) -> None:
        self.held = None


def objective(task: Task, noise: str, batch: int, seed: int) -> Callable[[Tensor], Tensor]:
    """What the optimizer sees; `redraw()` before each step."""
    kind, _, size = noise.partition(" ")
    if kind == "rows":
        return Rows(task.net, int(size) * batch, seed)
    sigma = 0.0 if kind == "none" else float(size) / math.sqrt(batch)
    held = {"loss": "tilted", "hold": True} if kind == "held" else {}
    return NoisyGradient(task.f, sigma, seed, **held)


def along(f: Landscape, *scales: tuple[int, float]) -> Callable[[int, torch.Generator], Tensor]:
    """Normal starts along f's axes: (how many axes, size) in turn."""
    size = torch.cat([torch.full((n,), s, dtype=torch.float64) for n, s in scales])
    return lambda n, g: f.from_axes(size * torch.randn(n, f.dim, dtype=torch.float64, generator=g))


def tasks() -> list[Task]:
    """The landscapes, of 20 to 50 variables."""
    some = []
    for kappa in (10.0, 100.0, 1000.0, 10_000.0):
        f = problems.bent_valley(kappa, dim=20)
        some.append(Task(f"valley {kappa:g}", f, along(f, (20, 1.0))))
    f = problems.saddle(negative=5, positive=15, condition=100.0)
    for near in (1e-1, 1e-3, 1e-6):
        some.append(Task(f"saddle {near:g}", f, along(f, (5, near), (15, 1.0)), top=0.0))
    f = problems.plateau(100.0, dim=20)
    some.append(Task("plateau", f, along(f, (20, 1.0))))
    for strength, length in ((0.3, 0.05), (3.0, 0.05), (3.0, 1.0)):
        f = problems.ripples(100.0, dim=20, strength=strength, wavelength=length)
        some.append(Task(f"ripples {strength:g}, {length:g}", f, along(f, (20, 1.0))))
    f = problems.linear_net(5)
    some.append(Task("linear net", f, along(f, (f.dim, 0.01)), top=float(f(f.at("saddle")))))
    f, net = problems.tanh_net()
    some.append(Task("tanh net", f, along(f, (f.dim, 0.5)), net=net))
    return some


# With a loss that is tilted a plateau has no minimum: there the noise is fresh.
NOISES = {
    "valley 100": ("held 0.01", "held 0.1", "fresh 0.1"),
    "valley 10000": ("held 0.01",),
    "saddle 0.001": ("held 0.1",),
    "plateau": ("fresh 0.1",),
    "ripples 3, 0.05": ("held 0.1",),
    "linear net": ("held 0.1",),
    "tanh net": ("rows 16",),
}
