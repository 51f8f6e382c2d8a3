"""When to switch, with no threshold to set: `Auto` tries the second phase out, and goes back where it does not pay.

It rests on two observations. Where the closure is one function (full_batch=True), the right moment is mostly early, and
a mistake costs little: the second phase never raises the loss, so a short trial can be judged by what it gained and
left again at the better point. Where the closure's batch changes, what a step gains on its batch need not be there on
the next one, and it mostly is not: so nothing is tried before the gradients of consecutive batches agree, and the
second phase is left again as soon as the gain does not last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from fuse_lib.optim.observation import Observation
from fuse_lib.optim.rule import Decision, Memory, Rule

FIRST_TRIAL = 3  # first-order calls before it, on one function; it is doubled, to 10 at least, after each that failed
FIRST_TRIAL_ON_BATCHES = 20  # on changing ones, where two signals have to be measured first
TRIAL = 10  # evaluations of a trial
WINDOW = 10  # first-order calls whose loss tells their pace
SHARE = 0.25  # of what the last first-order calls gained, which gain less and less, is what a trial has to gain
AGREE = 0.9  # what both signals of noise have to reach; 1 without noise
LASTS = 0.5  # the share of the second phase's gains that the following batches have to confirm
LOG = 32  # decisions kept
VERDICTS = ("trial", "second phase", "back: slower", "back: no progress", "back: the gain does not last")


@dataclass(frozen=True)
class Auto(Rule):
    """Switch when a trial of the second phase shows that it pays, and go back where it does not. `auto`.

    *One function* (full_batch=True). After 3 first-order calls the second phase is tried for 10 evaluations. It is kept
    if it lowers the loss by at least a quarter of what the last 10 (or fewer so far) first-order calls did: these gain
    less and less, and the loss has less left to fall. Otherwise the first phase goes on from the trial's end, which is
    never above its start, with its moments as they were; and the next trial comes after 10 more calls, then 20, 40, …

    *Changing batches.* A trial is made only where two signals of 1 without noise are ≥ 0.9, not before the 20th call:

        agreement  (‖m̂‖ / mean ‖g‖)², of the first phase's mean gradient (Adam's m̂) and with its weights: 1 where all
                   gradients have one direction, (1 − β₁)/(1 + β₁) = 0.05 where they are noise. It is left out where the
                   first phase keeps no mean gradient (SGD without momentum, RMSprop).
        progress   |f_k − f_{k−10}| / Σ |f_i − f_{i−1}| over the last 10 calls: 1 on a path that only falls.

    A trial's gain is then the fall of the loss from call to call, each on its own batch; and as long as the second
    phase lasts, at least half of what its steps gain on their own batches must be found on the next ones.

    It also goes back where the second phase makes no progress twice in a row (not where it has converged).
    `opt.last_step.decision` tells what was decided after a call, `opt.decisions` the last 32 decisions.
    The log's numbers are the fall of the loss: over the last 10 (or fewer) first-order calls, and over a trial.

    Where it fails: once a trial is kept on one function it does not look back, and on two physics-informed losses the
    first phase should have lasted longer (notebook 16).

    It judges the closure it is given. Where your loop hands the second phase another one (all rows in place of a
    minibatch), the two paces are of two functions: choose the switch by yourself then, `step:K`.

    >>> Auto()
    Auto()
    """

    reads = ("loss", "grad_norm_sq", "mean_norm_sq")
    hard = True
    returns = True

    def memory(self) -> Memory:
        nan = math.nan
        return {
            "latched": False, "trial": False, "waited": 0, "wait": 0, "losses": [nan] * (WINDOW + 1), "norms": 0.0,
            "weight": 0.0, "agreement": nan, "fall": nan, "start": nan, "last": nan, "gain": nan, "spent": 0,
            "calls": 0, "gained": 0.0, "kept": 0.0, "decided": 0, "log": [nan] * (4 * LOG),
        }  # fmt: skip

    def theta(self, seen: Observation, memory: Memory) -> float:
        if seen.theta == 0.0:
            self._after_second(seen, memory)
        elif not memory["latched"]:  # else these are the steps that collect pairs for it
            self._after_first(seen, memory)
        return 0.0 if memory["latched"] else 1.0

    def decisions(self, memory: Memory) -> list[Decision]:
        entries = [memory["log"][i : i + 4] for i in range(0, 4 * LOG, 4)]
        return [
            Decision(int(call), VERDICTS[int(verdict)], *paces) for call, verdict, *paces in entries if call == call
        ]

    # ---- the first phase
    def _after_first(self, seen: Observation, memory: Memory) -> None:
        if not (math.isfinite(seen.loss) and math.isfinite(seen.grad_norm_sq)):
            return
        _push(memory["losses"], -seen.loss if seen.maximize else seen.loss)
        if memory["weight"]:
            memory["agreement"] = seen.mean_norm_sq / max((memory["norms"] / memory["weight"]) ** 2, 1e-300)
        memory["norms"] = 0.9 * memory["norms"] + 0.1 * math.sqrt(seen.grad_norm_sq)
        memory["weight"] = 0.9 * memory["weight"] + 0.1
        memory["waited"] += 1
        least = FIRST_TRIAL if seen.full_batch else FIRST_TRIAL_ON_BATCHES
        if memory["waited"] >= max(memory["wait"], least) and (seen.full_batch or quiet(memory)):
            fresh = {"latched": True, "trial": True, "fall": fall(memory["losses"]), "start": math.nan, "spent": 0}
            memory.update(fresh, last=math.nan, gain=math.nan, calls=0, gained=0.0, kept=0.0)
            self._log(seen, memory, "trial")

    # ---- the second phase
    def _after_second(self, seen: Observation, memory: Memory) -> None:
        sign = -1.0 if seen.maximize else 1.0
        loss, after = sign * seen.loss, sign * seen.loss_after
        memory["calls"] += 1
        if math.isfinite(loss):
            self._take(loss, after, seen, memory)
        if seen.stop_reason == "no_progress":
            self._back(seen, memory, "back: no progress")
        elif memory["trial"]:
            self._judge(seen, memory)
        elif not seen.full_batch and memory["calls"] >= TRIAL:
            lasts = memory["kept"] >= LASTS * memory["gained"]
            memory.update(calls=0, gained=0.0, kept=0.0)
            if not lasts:
                self._back(seen, memory, "back: the gain does not last")

    def _take(self, loss: float, after: float, seen: Observation, memory: Memory) -> None:
        """Book a call of the second phase."""
        if math.isnan(memory["start"]):
            memory["start"] = loss
            if seen.full_batch and memory["trial"]:  # this loss ends the last first-order step
                _push(memory["losses"], loss)
                memory["fall"] = fall(memory["losses"])
        elif math.isfinite(memory["gain"]):
            memory["gained"] += memory["gain"]
            memory["kept"] += memory["last"] - loss
        memory["last"], memory["gain"] = loss, loss - after
        memory["spent"] += seen.evals

    def _judge(self, seen: Observation, memory: Memory) -> None:
        """The verdict on a trial, where it has come to its end."""
        if seen.full_batch and seen.stop_reason == "converged":
            second, pays = math.nan, True
        elif memory["calls"] < TRIAL and memory["spent"] < TRIAL:
            return
        else:
            second = memory["start"] - memory["last"] + (_finite(memory["gain"]) if seen.full_batch else 0.0)
            pays = second > 0.0 and not second < SHARE * memory["fall"]
            if not seen.full_batch:
                pays = pays and memory["kept"] >= LASTS * memory["gained"]
        if pays:
            memory["trial"] = False
            memory.update(calls=0, gained=0.0, kept=0.0)
            self._log(seen, memory, "second phase", second)
        else:
            self._back(seen, memory, "back: slower", second)

    def _back(self, seen: Observation, memory: Memory, why: str, second: float = math.nan) -> None:
        wait = max(10, 2 * memory["wait"])
        memory.update(latched=False, trial=False, waited=0, wait=wait, losses=[math.nan] * (WINDOW + 1))
        self._log(seen, memory, why, second)

    def _log(self, seen: Observation, memory: Memory, verdict: str, second: float = math.nan) -> None:
        memory["decided"] += 1
        memory["log"] = [
            *memory["log"][4:],
            float(seen.iteration),
            float(VERDICTS.index(verdict)),
            memory["fall"],
            second,
        ]

    def __str__(self) -> str:
        return "auto"


def fall(losses: list[float]) -> float:
    """The fall of the loss over the calls that are known, newest last."""
    known = [f for f in losses if math.isfinite(f)]
    return known[0] - known[-1] if len(known) > 1 else math.nan


def progress(losses: list[float]) -> float:
    """The share of the loss's way up and down that was progress: 1 on a path that only falls."""
    way = math.fsum(abs(b - a) for a, b in pairwise(losses))
    return (losses[0] - losses[-1]) / way if way else math.nan


def quiet(memory: Memory) -> bool:
    """Whether neither signal sees noise."""
    return progress(memory["losses"]) >= AGREE and not memory["agreement"] < AGREE


def _push(losses: list[float], loss: float) -> None:
    del losses[0]
    losses.append(loss)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
