"""When to switch: rules that turn what was observed into θ.

θ is the share of the first-order step in the next call of `step()` (the paper's Algorithm 3):
1 is Adam, 0 is L-BFGS, between them the two are blended. A *criterion* answers 1 until it is met
and 0 from then on (Algorithm 4, FUSE-PV); a *schedule* answers anything in [0, 1].

The strings that name a rule (`parse`, and `switchover=` of the optimizers):

{ALLOWED}

A rule is an immutable description. What it has to remember (a running sum, a latch) lies in a
plain dict that the optimizer keeps, hands to every question and saves with its own state. So one
rule can serve many optimizers, two rules are equal when they say the same, and a rule of your own
is a few lines:

>>> from dataclasses import dataclass
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

from fuse_lib.optim.auto import Auto
from fuse_lib.optim.criteria import AllOf, Always, AnyOf, AtStep, GradientNorm, LossChange, Never
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.rule import Criterion, Memory, Rule, check_reads
from fuse_lib.optim.schedules import AlignedTheta, ConstantTheta, CosineTheta, LinearTheta

__all__ = [
    "ALLOWED", "AlignedTheta", "AllOf", "Always", "AnyOf", "AtStep", "Auto", "ConstantTheta", "CosineTheta",
    "Criterion", "GradientNorm", "LinearTheta", "LossChange", "Memory", "Never", "Observation", "Rule", "parse",
]  # fmt: skip

ALLOWED = """\
  auto                            tries the second phase out, and goes back where it does not pay
  never, always                   one phase only
  step:K                          after K first-order steps
  gradnorm:ZETA[:WINDOW]          mean squared gradient norm ≤ ZETA, over all steps or the last WINDOW
  losschange:SIGMA[:WINDOW]       mean change of the loss ≤ SIGMA, over the last WINDOW steps (1)
  theta:VALUE                     a constant blend, 0 ≤ VALUE ≤ 1
  theta:linear:N, theta:cosine:N  θ from 1 to 0 in N calls
  theta:aligned[:LOW:HIGH]        θ from the angle between the two steps, in [LOW, HIGH] (0.05, 0.95)"""

if __doc__:  # none under python -OO
    __doc__ = __doc__.replace("{ALLOWED}", ALLOWED)  # one source for the documentation and the errors


def parse(switchover: str | Rule) -> Rule:
    """A rule from its string, for papermill parameters and command lines. A Rule is returned as it is.

    Raises:
        ValueError: the string is none of those allowed, or the Rule reads what no Observation has; the message lists
            what is.
        TypeError: neither a string nor a Rule.

    >>> parse("gradnorm:1e-3:50")
    GradientNorm(zeta=0.001, window=50)
    """
    if isinstance(switchover, Rule):
        check_reads(switchover)
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
