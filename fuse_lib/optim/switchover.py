"""When to switch: rules that turn what was observed into θ.

θ is the share of the first-order step in the next call of `step()` (the paper's Algorithm 3):
1 is Adam, 0 is L-BFGS, between them the two are blended. A *criterion* answers 1 until it is met
and 0 from then on (Algorithm 4, FUSE-PV); a *schedule* answers anything in [0, 1].

A rule is an immutable description. What it has to remember (a running sum, a latch) lies in a
plain dict that the optimizer keeps, hands to every question and saves with its own state. So one
rule can serve many optimizers, two rules are equal when they say the same, and a rule of your own
is a few lines:

>>> @dataclass(frozen=True)
... class LossBelow(Criterion):
...     target: float
...     reads = ("loss",)
...     def met(self, seen, memory):
...         return seen.loss < self.target
>>> rule = LossBelow(0.5)
>>> memory = rule.memory()
>>> [rule.theta(Observation(k, loss=f), memory) for k, f in enumerate([0.9, 0.4, 0.8], 1)]
[1.0, 0.0, 0.0]

`opt = FusePV(model.parameters(), switchover=LossBelow(0.5))` uses it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fuse_lib.optim.auto import Auto
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.rule import Criterion, Memory, Rule


@dataclass(frozen=True)
class AtStep(Criterion):
    """Switch after exactly k first-order steps: the paper's iteration rule, k ≥ K₀. `step:k`."""

    k: int

    def __post_init__(self) -> None:
        _check(self.k, "k", "an integer ≥ 0", _is_integer(self.k) and self.k >= 0)

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
        _check(self.zeta, "zeta", "a number > 0", _is_number(self.zeta) and self.zeta > 0)
        _check_window(self.window, none_allowed=True)

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
        _check(self.sigma, "sigma", "a number > 0", _is_number(self.sigma) and self.sigma > 0)
        _check_window(self.window, none_allowed=False)

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
            _check(c, "criteria", "hard rules", isinstance(c, Criterion))
        _check(criteria, "criteria", "at least one hard rule", len(criteria) > 0)
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


@dataclass(frozen=True)
class ConstantTheta(Rule):
    """The same blend in every call. `theta:θ`, θ in [0, 1]."""

    value: float

    def __post_init__(self) -> None:
        _check(self.value, "value", "a number in [0, 1]", _is_number(self.value) and 0 <= self.value <= 1)

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
        _check(self.steps, "steps", "an integer ≥ 1", _is_integer(self.steps) and self.steps >= 1)

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
            _check(value, name, "a number in (0, 1)", _is_number(value) and 0 < value < 1)
        _check((self.low, self.high), "(low, high)", "low ≤ high", self.low <= self.high)

    def first(self) -> float:
        return self.high

    def theta(self, seen: Observation, memory: Memory) -> float:
        if not math.isfinite(seen.cosine):
            return self.high
        return self.high - (self.high - self.low) * min(1.0, max(0.0, seen.cosine))

    def __str__(self) -> str:
        return "theta:aligned" + ("" if self == AlignedTheta() else f":{self.low!r}:{self.high!r}")


ALLOWED = """\
  auto                            tries the second phase out, and goes back where it does not pay
  never, always                   one phase only
  step:K                          after K first-order steps
  gradnorm:ZETA[:WINDOW]          mean squared gradient norm ≤ ZETA, over all steps or the last WINDOW
  losschange:SIGMA[:WINDOW]       mean change of the loss ≤ SIGMA, over the last WINDOW steps (1)
  theta:VALUE                     a constant blend, 0 ≤ VALUE ≤ 1
  theta:linear:N, theta:cosine:N  θ from 1 to 0 in N calls
  theta:aligned[:LOW:HIGH]        θ from the angle between the two steps, in [LOW, HIGH] (0.05, 0.95)"""


def parse(switchover: str | Rule) -> Rule:
    """A rule from its string, for papermill parameters and command lines. A Rule is returned as it is.

    Raises:
        ValueError: the string is none of those allowed; the message lists them.
        TypeError: neither a string nor a Rule.

    >>> parse("gradnorm:1e-3:50")
    GradientNorm(zeta=0.001, window=50)
    """
    if isinstance(switchover, Rule):
        return switchover
    if not isinstance(switchover, str):
        raise TypeError(f"switchover: got {switchover!r}; allowed is a Rule or one of\n{ALLOWED}")
    kind, *rest = switchover.strip().split(":")
    try:
        return _BUILD[kind](*rest)
    except (KeyError, TypeError, ValueError) as error:
        why = f" ({error})" if isinstance(error, ValueError) else ""
        raise ValueError(f"switchover: got {switchover!r}{why}; allowed is one of\n{ALLOWED}") from None


def _theta(kind: str, *rest: str) -> Rule:
    falling = {"linear": LinearTheta, "cosine": CosineTheta}
    if kind in falling:
        return falling[kind](*map(int, rest))
    if kind == "aligned":
        return AlignedTheta(*map(float, rest))
    return ConstantTheta(float(kind), *rest)


_BUILD = {
    "auto": Auto,
    "never": Never,
    "always": Always,
    "step": lambda k: AtStep(int(k)),
    "gradnorm": lambda zeta, window=None: GradientNorm(float(zeta), window and int(window)),
    "losschange": lambda sigma, window="1": LossChange(float(sigma), int(window)),
    "theta": _theta,
}


def _empty(window: int) -> list[float]:
    return [math.nan] * window


def _push(values: list[float], value: float) -> float:
    """Shift a value in from the right and return the mean: NaN, which meets no bound, until all are there."""
    del values[0]
    values.append(value)
    return math.fsum(v / len(values) for v in values)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(value: object, name: str, allowed: str, ok: bool) -> None:
    if not ok:
        raise ValueError(f"{name}: got {value!r}; allowed is {allowed}")


def _check_window(window: object, none_allowed: bool) -> None:
    ok = _is_integer(window) and window >= 1
    allowed = "an integer ≥ 1" + (" or None" if none_allowed else "")
    _check(window, "window", allowed, ok or (none_allowed and window is None))


def _spec(kind: str, threshold: float, window: int | None) -> str:
    return f"{kind}:{float(threshold)!r}" + ("" if window is None else f":{window}")
