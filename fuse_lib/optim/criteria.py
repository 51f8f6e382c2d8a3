"""The rules of FUSE-PV (Algorithm 4): first-order steps until a criterion is met, the second phase from then on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fuse_lib.optim.checks import check, check_window, is_integer, is_number
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.rule import Criterion, Memory, check_reads


@dataclass(frozen=True)
class AtStep(Criterion):
    """Switch after exactly k first-order steps: the paper's iteration rule, k ≥ K₀. `step:k`."""

    k: int

    def __post_init__(self) -> None:
        check(self.k, "k", "an integer ≥ 0", is_integer(self.k) and self.k >= 0)

    def first(self) -> float:
        return 0.0 if self.k == 0 else 1.0

    def met(self, seen: Observation, memory: Memory) -> bool:
        return seen.iteration >= self.k

    def switch_step(self) -> int:
        return self.k

    def __str__(self) -> str:
        return f"step:{self.k}"


@dataclass(frozen=True)
class GradientNorm(Criterion):
    """Switch when the mean of ‖g_k‖² is at most ζ. `gradnorm:ζ` or `gradnorm:ζ:window`.

    window=None: the mean over all steps so far, the paper's (1/K) Σ_{k≤K} E‖g(x_k)‖² ≤ ζ. Its early,
    large terms fade only like 1/K. window=W: over the last W steps, not asked before there are W.
    """

    zeta: float
    window: int | None = None
    reads = ("grad_norm_sq",)

    def __post_init__(self) -> None:
        check(self.zeta, "zeta", "a number > 0", is_number(self.zeta) and self.zeta > 0)
        check_window(self.window, none_allowed=True)

    def memory(self) -> Memory:
        running = {"sum": 0.0, "count": 0} if self.window is None else {"values": _empty(self.window)}
        return super().memory() | running

    def met(self, seen: Observation, memory: Memory) -> bool:
        if self.window is not None:
            return _push(memory["values"], seen.grad_norm_sq) <= self.zeta
        memory["count"] += 1
        memory["sum"] += seen.grad_norm_sq
        return memory["sum"] / memory["count"] <= self.zeta

    def __str__(self) -> str:
        return _spec("gradnorm", self.zeta, self.window)


@dataclass(frozen=True)
class LossChange(Criterion):
    """Switch when the mean of |f_k − f_{k−1}| over the last W steps is at most σ. `losschange:σ:W`.

    The paper's rule E|f(x_k) − f(x_{k−1})| ≤ σ; window=1 takes the single difference. On minibatches
    the difference holds the noise of two batches, which a larger window averages but does not remove.
    """

    sigma: float
    window: int = 1
    reads = ("loss",)

    def __post_init__(self) -> None:
        check(self.sigma, "sigma", "a number > 0", is_number(self.sigma) and self.sigma > 0)
        check_window(self.window, none_allowed=False)

    def memory(self) -> Memory:
        return super().memory() | {"loss": math.nan, "values": _empty(self.window)}

    def met(self, seen: Observation, memory: Memory) -> bool:
        change, memory["loss"] = abs(seen.loss - memory["loss"]), seen.loss
        return _push(memory["values"], change) <= self.sigma

    def __str__(self) -> str:
        return _spec("losschange", self.sigma, self.window)


@dataclass(frozen=True)
class Never(Criterion):
    """The first phase for ever: the first-order optimizer, bit for bit. `never`."""

    def met(self, seen: Observation, memory: Memory) -> bool:
        return False

    def __str__(self) -> str:
        return "never"


@dataclass(frozen=True)
class Always(Criterion):
    """The second phase from the first call on. `always`."""

    def first(self) -> float:
        return 0.0

    def met(self, seen: Observation, memory: Memory) -> bool:
        return True

    def switch_step(self) -> int:
        return 0

    def __str__(self) -> str:
        return "always"


class _Combined(Criterion):
    """Several criteria, each with a memory of its own."""

    def __init__(self, *criteria: Criterion) -> None:
        for c in criteria:
            check(c, "criteria", "hard rules", isinstance(c, Criterion))
            check_reads(c)
        check(criteria, "criteria", "at least one hard rule", len(criteria) > 0)
        self.criteria = criteria

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(sorted({name for c in self.criteria for name in c.reads}))

    def memory(self) -> Memory:
        return super().memory() | {str(i): c.memory() for i, c in enumerate(self.criteria)}

    def _answers(self, seen: Observation, memory: Memory) -> list[bool]:
        """Whether each criterion has been met by now. Each skips its own values that are not finite."""
        thetas = [c.theta(seen, memory[str(i)]) for i, c in enumerate(self.criteria)]
        return [theta == 0.0 for theta in thetas]

    def _readable(self, seen: Observation) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.criteria == other.criteria

    def __hash__(self) -> int:
        return hash((type(self), self.criteria))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.criteria))})"


class AnyOf(_Combined):
    """Switch when the first of several criteria is met: AnyOf(AtStep(5000), GradientNorm(1e-4))."""

    def first(self) -> float:
        return min(c.first() for c in self.criteria)

    def met(self, seen: Observation, memory: Memory) -> bool:
        return any(self._answers(seen, memory))


class AllOf(_Combined):
    """Switch when each of several criteria has been met at some step, not necessarily the same one."""

    def first(self) -> float:
        return max(c.first() for c in self.criteria)

    def met(self, seen: Observation, memory: Memory) -> bool:
        return all(self._answers(seen, memory))


def _empty(window: int) -> list[float]:
    return [math.nan] * window


def _push(values: list[float], value: float) -> float:
    """Shift a value in from the right and return the mean: NaN, which meets no bound, until all are there."""
    del values[0]
    values.append(value)
    return math.fsum(v / len(values) for v in values)


def _spec(kind: str, threshold: float, window: int | None) -> str:
    return f"{kind}:{float(threshold)!r}" + ("" if window is None else f":{window}")
