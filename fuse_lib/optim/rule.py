"""What a switchover rule is. The rules themselves are in `criteria.py`, `schedules.py` and `auto.py`."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

from fuse_lib.optim.observation import Observation

Memory = dict  # name → bool, int, float, list of floats, or such a dict again


class Decision(NamedTuple):
    """One entry of a rule's log.

    call: of `step()`, after which it was decided; 1 is the first.
    verdict: what. first, second: numbers about the two phases that it rests on, see the rule; NaN where it does not.
    """

    call: int
    verdict: str
    first: float
    second: float


class Rule:
    """Observation → θ of the next call.

    reads: which values of the Observation the rule needs, of "loss", "grad_norm_sq", "mean_norm_sq",
        "curvature" and "cosine".
        A rule that reads none costs no host synchronisation.
    hard: whether θ is only ever 1 or 0 and, once 0, stays 0.
    returns: whether a hard rule may go back from 0 to 1; it is then asked in the second phase as well.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    hard: ClassVar[bool] = False
    returns: ClassVar[bool] = False

    def first(self) -> float:
        """θ of the very first call, before anything was observed."""
        return 1.0

    def memory(self) -> Memory:
        """A fresh memory, with everything the rule will keep in it: numbers and lists of fixed length."""
        return {}

    def theta(self, seen: Observation, memory: Memory) -> float:
        """θ of the call after the one that saw `seen`."""
        raise NotImplementedError

    def switch_step(self) -> int | None:
        """The number of first-order steps before the switch, where that is known from the start."""
        return None

    def decisions(self, memory: Memory) -> list[Decision]:
        """What was decided so far, and on what grounds, oldest first, for rules that keep a log.

        Such a rule counts its decisions in memory["decided"], by which the optimizer sees that there is a new one.
        """
        return []

    def __str__(self) -> str:
        """The string that `parse` takes, or, for a rule without one, its repr."""
        return repr(self)


class Criterion(Rule):
    """A hard rule: θ = 1 until `met` says yes, 0 from then on. Values that are not finite are skipped."""

    hard = True

    def memory(self) -> Memory:
        return {"latched": False}

    def met(self, seen: Observation, memory: Memory) -> bool:
        """Whether to switch now. Not asked again once the answer was yes."""
        raise NotImplementedError

    def theta(self, seen: Observation, memory: Memory) -> float:
        if not memory["latched"]:
            memory["latched"] = self._readable(seen) and bool(self.met(seen, memory))
        return 0.0 if memory["latched"] else 1.0

    def _readable(self, seen: Observation) -> bool:
        return all(math.isfinite(getattr(seen, name)) for name in self.reads)


def check_reads(rule: Rule) -> None:
    """Raise where a rule reads what no Observation has. (Its first question would fail, in mid-training.)

    Raises:
        ValueError: the message names the rule, the name and what is allowed.
    """
    allowed, reads = Observation._fields, rule.reads
    names = ", ".join(map(repr, allowed))
    if isinstance(reads, str):  # its letters would pass for names
        raise ValueError(f"switchover: {rule} reads {reads!r}; allowed is a tuple of names, such as ({reads!r},)")
    for name in reads:
        if name not in allowed:
            raise ValueError(f"switchover: {rule} reads {name!r}; allowed is any of {names}")
