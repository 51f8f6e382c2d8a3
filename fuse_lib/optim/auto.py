"""When to switch, with no threshold to set: `Auto` tries the second phase out, and goes back where it does not pay.

It rests on two observations. Where the closure is one function (full_batch=True), the right moment is mostly early, but
not on a path whose loss goes up and down and whose curvature changes its sign: there the second phase, begun early,
creeps through a valley that the first one would have left. Once it has begun there is no way back that pays: the first
phase's steps are too long for the point that it is at (notebook 16), so all the care is taken before. Where the
closure's batch changes, what a step gains on its batch need not be there on the next one, and it mostly is not: so
nothing is tried before the gradients of consecutive batches agree, and the second phase is left again as soon as the
gain does not last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from fuse_lib.optim.observation import Observation
from fuse_lib.optim.rule import Decision, Memory, Rule

FIRST_TRIAL = 3  # first-order calls before it, on one function
CAREFUL = 6  # where the loss has risen on the way: the sign of the curvature along some more steps is waited for
CALM = 20  # and, where that was negative, so many calls since it was so last
PATIENCE = 100  # calls after which it is tried all the same
FIRST_TRIAL_ON_BATCHES = 20  # on changing ones, where two signals have to be measured first
TRIAL = 10  # evaluations of a trial; after one that failed the next waits for 10 calls more, then for 20, 40, …
WINDOW = 10  # first-order calls whose loss tells their pace
SHARE = 0.25  # of what the last first-order calls gained is what a trial on changing batches has to gain
AGREE = 0.9  # what both signals of noise have to reach; 1 without noise
LASTS = 0.5  # the share of the second phase's gains that the following batches have to confirm
LOG = 32  # decisions kept
VERDICTS = ("trial", "second phase", "back: slower", "back: no progress", "back: the gain does not last")


@dataclass(frozen=True)
class Auto(Rule):
    """Switch when a trial of the second phase shows that it pays, and go back where it does not. `auto`.

    *One function* (full_batch=True). After 3 first-order calls the second phase is tried for 10 evaluations, if the
    loss fell at each of them. If it rose, the trial waits for the 6th call, and if a step so far had negative
    curvature, sᵀy < 0 (its gradients do not change as in a bowl), for the 20th call since the last such step, but not
    beyond the 100th. The trial is kept if it lowers the loss. Otherwise the first phase goes on from the trial's end,
    which is never above its start, with its moments as they were; the next trial comes after 10 more calls, then 20, …
    The curvature is that of the pairs which the first phase collects; under handover "none" or "metric", or with a
    method that takes no pairs, there are none, and nothing is waited for but the 6th call.

    *Changing batches.* A trial is made only where two signals of 1 without noise are ≥ 0.9, not before the 20th call:

        agreement  (‖m̂‖ / mean ‖g‖)², of the first phase's mean gradient (Adam's m̂) and with its weights: 1 where all
                   gradients have one direction, (1 − β₁)/(1 + β₁) = 0.05 where they are noise. It is left out where the
                   first phase keeps no mean gradient (SGD without momentum, RMSprop).
        progress   |f_k − f_{k−10}| / Σ |f_i − f_{i−1}| over the last 10 calls: 1 on a path that only falls.

    A trial's gain is then the fall of the loss from call to call, each on its own batch. It is kept if that is at least
    a quarter of what the last 10 first-order calls gained; and as long as the second phase lasts, at least half of what
    its steps gain on their own batches must be found on the next ones.

    It also goes back where the second phase makes no progress twice in a row (not where it has converged).
    `opt.last_step.decision` tells what was decided after a call, `opt.decisions` the last 32 decisions.
    The log's numbers are the fall of the loss: over the last 10 (or fewer) first-order calls, and over a trial.

    What it costs: one read from the device a call (`check_every`), of the loss and the gradient's norm. Besides, in the
    first phase: on changing batches a pass over the mean gradient, on one function a pass over x and g, for sᵀy.

    Where it fails: once a trial is kept on one function it does not look back (notebook 16 shows why not).

    It judges the closure it is given. Where your loop hands the second phase another one (all rows in place of a
    minibatch), the two paces are of two functions: choose the switch by yourself then, `step:K`.

    >>> Auto()
    Auto()
    """

    reads = ("loss", "grad_norm_sq", "mean_norm_sq", "curvature")
    hard = True
    returns = True

    def memory(self) -> Memory:
        nan = math.nan
        return {
            "latched": False, "trial": False, "rose": False, "bent": False, "calm": 0, "waited": 0, "wait": 0,
            "losses": [nan] * (WINDOW + 1), "norms": 0.0, "weight": 0.0,
            "agreement": nan, "fall": nan, "start": nan, "last": nan, "gain": nan, "spent": 0,
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
        loss = -seen.loss if seen.maximize else seen.loss
        memory["rose"] = memory["rose"] or loss > memory["losses"][-1]
        memory["calm"] += 1
        if seen.curvature < 0.0:
            memory.update(bent=True, calm=0)
        _push(memory["losses"], loss)
        if memory["weight"]:
            memory["agreement"] = seen.mean_norm_sq / max((memory["norms"] / memory["weight"]) ** 2, 1e-300)
        memory["norms"] = 0.9 * memory["norms"] + 0.1 * math.sqrt(seen.grad_norm_sq)
        memory["weight"] = 0.9 * memory["weight"] + 0.1
        memory["waited"] += 1
        least = FIRST_TRIAL_ON_BATCHES if not seen.full_batch else CAREFUL if memory["rose"] else FIRST_TRIAL
        quiet = smooth(memory) if seen.full_batch else agreed(memory)
        if memory["waited"] >= max(memory["wait"], least) and quiet:
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
            pays = second > 0.0
            if not seen.full_batch:
                pays = pays and not second < SHARE * memory["fall"] and memory["kept"] >= LASTS * memory["gained"]
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


def smooth(memory: Memory) -> bool:
    """Whether the first phase's path is not, or no longer, one of rising losses and negative curvature."""
    rough = memory["rose"] and memory["bent"] and memory["calm"] < CALM
    return not rough or memory["waited"] >= PATIENCE


def agreed(memory: Memory) -> bool:
    """Whether neither signal sees noise."""
    return progress(memory["losses"]) >= AGREE and not memory["agreement"] < AGREE


def _push(losses: list[float], loss: float) -> None:
    del losses[0]
    losses.append(loss)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
