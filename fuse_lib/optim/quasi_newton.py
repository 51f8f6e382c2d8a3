"""L-BFGS as a method of the second phase: p = −Hg, from the last m curvature pairs.

fold in the last pair, take the products of the history with the gradient   (read along with the point)
p = −Hg                                                                     (gram.py; direction.py to learn from)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import sub

import torch
from torch import Tensor

from fuse_lib.optim import noise
from fuse_lib.optim.blocks import in_blocks
from fuse_lib.optim.gram import HOST
from fuse_lib.optim.history import History, Staged
from fuse_lib.optim.method import Direction, Evaluate, Method
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.vectors import Vectors


class QuasiNewton(Method):
    """L-BFGS.

    of_g: products of the history with the gradient at the point that was looked at last, read; None before the first.
    looks: how many points were looked at.
    """

    name = "lbfgs"
    inherits = ("pairs", "metric")

    def __init__(self, vectors: Vectors, history: History) -> None:
        super().__init__(vectors)
        self.history = history
        self.of_g: list[float] | None = None
        self.looks = 0

    # ---- a point is looked at
    def wanted(self, point: Point) -> dict[str, Tensor]:
        history = self.history
        wanted = {"of_g": history.times(point.gradient.vector)}
        if history.staged:
            wanted |= zip(("ss", "sy", "yy"), history.dots(), strict=True)
            if not self._chained(point):
                wanted["of_y"] = history.times(history.staged_vectors()[1])
            if history.damped:
                wanted["of_s"] = history.times(history.staged_vectors()[0])
        return wanted

    def seen(self, point: Point, read: dict[str, list[float]]) -> None:
        history = self.history
        before, self.of_g = self.of_g, history.padded(read["of_g"])
        if history.staged:
            chained = self._chained(point)
            of_y = list(map(sub, self.of_g, before)) if chained else history.padded(read["of_y"])
            of_s = history.padded(read["of_s"]) if history.damped else None
            history.add([read[name][0] for name in ("ss", "sy", "yy")], self.of_g, of_y, of_s)
        self.looks += 1
        point.look, point.pair = self.looks, None

    def _chained(self, point: Point) -> bool:
        """Whether the products with the staged pair's y are a difference of two that are known."""
        return self.history.staged is not None and point.pair is self.history.staged

    # ---- one iteration
    def direction(self, point: Point, evaluate: Evaluate, most: int) -> Direction | None:
        if self.history:
            found = self.history.direction(self.of_g, point.gg)
            if math.isfinite(found.slope) and found.slope < 0:
                p = self.history.combine(found, point.gradient.vector, self.vectors.take())
                return Direction(p, found.slope, 1.0)
            self.history.clear()
        return None

    def change(self) -> Tensor:
        free = self.history.free
        return self.vectors.take() if free is None else free[1]

    def searched(self, found: Search) -> None:
        start, end, vectors, history = found.start, found.end, self.vectors, self.history
        if history.free is None or vectors.scale is not None:
            self.remember(start, end).minimum = found.minimum
            if history.free is None:
                vectors.give(found.y)
            return
        s, y = history.free
        ss, sy, end.for_noise = in_blocks(
            self._step_sums, end.x, start.x, s, y, end.gradient.vector, whole=vectors.weights is not None
        )
        self._chain(start, end, history.written((ss, sy, end.yy), found.minimum))

    def _step_sums(self, x: Tensor, x0: Tensor, s: Tensor, y: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        """s ← x − x0, and sᵀs, sᵀy, and what is to be read for the noise."""
        torch.sub(x, x0, out=s)
        dot = self.vectors.dot
        return dot(s, s), dot(s, y), *noise.wanted(self.vectors, g, x)

    def remember(self, start: Point, end: Point) -> Staged:
        return self._chain(start, end, self._stage(start, end))

    def _stage(self, start: Point, end: Point) -> Staged:
        """Write (s, y) between two evaluated points of one function into the history."""
        s = (end.x, start.x)
        if self.vectors.scale is not None:
            difference = self.vectors.inward(end.x - start.x)
            s = (difference, torch.zeros_like(difference))
        return self.history.stage(s, (end.gradient.vector, start.gradient.vector))

    def _chain(self, start: Point, end: Point, staged: Staged) -> Staged:
        """If the products with the gradient at the start are known, those with y will be a difference.

        That is not as accurate where y is short against the gradient.
        """
        close = (0.03 if self.vectors.dtype == torch.float32 else 3e-6) ** 2
        if start.look == self.looks > 0 and end.yy_read >= close * end.gg:
            end.pair = staged
        return staged

    def clear(self) -> None:
        self.history.clear()

    def forget(self) -> None:
        self.clear()
        self.of_g = None

    # ---- what the first phase collects
    def collect(self, start: Point, end: Point) -> None:
        self._stage(start, end)
        self.history.keep_unmeasured()

    def measure(self) -> tuple[int, int] | None:
        return self.history.measure(self.vectors.read) if self.history else None

    def rescale(self, scale: Tensor) -> None:
        vectors, history = self.vectors, self.history
        for i in history.slots:
            history.S[i].copy_(vectors.inward(history.S[i].to(vectors.dtype)))
            history.Y[i].copy_(history.Y[i].to(vectors.dtype) * scale)

    def pair_verdict(self) -> Callable[[], str] | str | None:
        """A function that reads it from the device when it is called, or, where other processes would have to read
        along, the answer. None without a pair."""
        history, staged = self.history, self.history.staged
        if staged is None:
            return None

        def say() -> str:
            return staged.reason or history.judge(*(dot for (dot,) in self.vectors.read(history.dots()))).reason

        return say if self.vectors.processes.alone else say()

    # ---- checkpoints
    def in_use(self) -> bool:
        return self.history.S is not None

    def allocate(self) -> None:
        self.history.allocate()

    def state(self, known: Point | None) -> tuple[dict[str, object], dict[str, Tensor]]:
        history = self.history
        of_g = torch.zeros(history.size + 1, 2, **HOST)
        if self.of_g is not None:
            of_g = torch.tensor(self.of_g, **HOST).view(-1, 2)
        numbers = {
            **history.state(),
            "has_pair": history.staged is not None,
            "chained": known is not None and self._chained(known),
            "of_g": of_g,
        }
        return numbers, {} if history.S is None else {"S": history.S, "Y": history.Y}

    def load(self, numbers: dict, vectors: dict[str, Tensor], known: Point | None) -> None:
        of_g = numbers["of_g"]
        if of_g.dim() == 2 and of_g.shape[0] != self.history.size + 1:
            raise ValueError(f"it was saved with history_size={of_g.shape[0] - 1}")
        if tuple(of_g.shape) != (self.history.size + 1, 2):
            raise ValueError(f"state_dict: its of_g has shape {tuple(of_g.shape)}; allowed is (history_size + 1, 2)")
        self.history.load(numbers, vectors.get("S"), vectors.get("Y"), bool(int(numbers["has_pair"])))
        self.of_g = of_g.to(**HOST).reshape(-1).tolist()
        self.looks = 0
        if known is not None:
            known.pair = self.history.staged if int(numbers["chained"]) else None

    def rows(self, name: str) -> tuple[int, ...]:
        return (self.history.size + 1,) if name in ("S", "Y") else ()
