"""The rules of general FUSE (Algorithm 3): θ in [0, 1], by a plan or by the angle between the two steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fuse_lib.optim.checks import check, is_integer, is_number
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.rule import Memory, Rule


@dataclass(frozen=True)
class ConstantTheta(Rule):
    """The same blend in every call. `theta:θ`, θ in [0, 1]."""

    value: float

    def __post_init__(self) -> None:
        check(self.value, "value", "a number in [0, 1]", is_number(self.value) and 0 <= self.value <= 1)

    def first(self) -> float:
        return float(self.value)

    def theta(self, seen: Observation, memory: Memory) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return f"theta:{self.value!r}"


@dataclass(frozen=True)
class _Falling(Rule):
    """θ_k falls from 1 at call k = 0 to 0 at call k = steps, and stays there."""

    steps: int
    name: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check(self.steps, "steps", "an integer ≥ 1", is_integer(self.steps) and self.steps >= 1)

    def theta(self, seen: Observation, memory: Memory) -> float:
        # Calls are counted from 0, iterations from 1: the call after iteration i is call k = i.
        return self.shape(min(1.0, seen.iteration / self.steps))

    @staticmethod
    def shape(done: float) -> float:
        raise NotImplementedError

    def __str__(self) -> str:
        return f"theta:{self.name}:{self.steps}"


@dataclass(frozen=True)
class LinearTheta(_Falling):
    """θ_k = max(0, 1 − k/N). `theta:linear:N`."""

    name = "linear"

    @staticmethod
    def shape(done: float) -> float:
        return 1.0 - done


@dataclass(frozen=True)
class CosineTheta(_Falling):
    """θ_k = (1 + cos(π k/N))/2 up to k = N, then 0. `theta:cosine:N`."""

    name = "cosine"

    @staticmethod
    def shape(done: float) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * done))  # cos π is −1 exactly


@dataclass(frozen=True)
class AlignedTheta(Rule):
    """Trust the second-order step as far as it agrees with the first-order one.

    `theta:aligned` or `theta:aligned:low:high`.

    With c the cosine of the angle between the two steps of the last call, θ goes from `high` (c ≤ 0)
    down to `low` (c = 1). It stays inside (0, 1): at either end only one step would be computed, and
    there would be no angle to come back by.
    """

    low: float = 0.05
    high: float = 0.95
    reads = ("cosine",)

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            check(value, name, "a number in (0, 1)", is_number(value) and 0 < value < 1)
        check((self.low, self.high), "(low, high)", "low ≤ high", self.low <= self.high)

    def first(self) -> float:
        return self.high

    def theta(self, seen: Observation, memory: Memory) -> float:
        if not math.isfinite(seen.cosine):
            return self.high
        return self.high - (self.high - self.low) * min(1.0, max(0.0, seen.cosine))

    def __str__(self) -> str:
        return "theta:aligned" + ("" if self == AlignedTheta() else f":{self.low!r}:{self.high!r}")
