"""The second phase: one L-BFGS iteration, from vectors, history, direction and line search.

An iteration is four lines of mathematics:

    fold in the last pair, take the products of the history with the gradient   (one read to the host)
    p = −Hg                                                                     (direction.py)
    find t by a strong Wolfe search along x + t p                               (one read a trial)
    x ← x + t p, with s = the step and y = the change of the gradient as the next pair
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fuse_lib.optim.history import History, Staged
from fuse_lib.optim.line_search import Sample, better, search
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.vectors import Gradient, Vectors

Evaluate = Callable[[], tuple[object, "Tensor | float"]]  # () → (the closure's value, it as a scalar)


class BrokenPromise(RuntimeError):
    """full_batch=True was promised, but two calls of the closure at one point gave different losses."""


@dataclass
class SecondOrder:
    """The state of the second phase and its iteration.

    vectors: the parameters. history: the curvature memory. full_batch: the closure is one function.
    known: the last point where the full-batch function was evaluated. at_known: whether the parameters were
        left there; otherwise a first-order or blended step led away from it.
    failures: searches in a row that found no lower loss.
    promise_checked: whether full_batch was tested within a step. (From one step to the next it is tested
        after each failure.)
    """

    vectors: Vectors
    history: History
    full_batch: bool = False
    known: Point | None = None
    at_known: bool = False
    failures: int = 0
    promise_checked: bool = False
    of_g: Tensor | None = field(init=False, default=None, repr=False)  # at the point that was looked at last
    looks: int = field(init=False, default=0, repr=False)  # how many points were looked at
    _gx: float = field(init=False, default=math.nan, repr=False)  # see _noise

    # ---- the start of a step
    def start(self, evaluate: Evaluate, reuse: bool = True) -> Point:
        """The point a step starts from, with everything about it on the host.

        The closure is called, unless the full-batch function was last evaluated at the parameters as they
        are now, bit for bit; whether they are the same is read along with the rest. Where a step of another
        kind led here from the last known point, that step's pair costs nothing: both gradients are there.

        reuse: False where the parameters' .grad must be the start's, as a first-order step wants it.
        """
        known, self.known = self.last_known(), None
        reusable = reuse and known is not None and self.at_known
        doubted = self.failures > 0  # a search that found nothing lower may have had two functions to search
        if reusable and not doubted and self.look(known, if_here=True):
            self.known = known
            return known
        point = self.evaluate(evaluate, start=True)
        if self.full_batch and not self.promise_checked:
            self._check_promise(point, self.evaluate(evaluate), "two calls of the closure in one step")
        elif reusable and doubted:
            self._check_promise(known, point, "the closures of two steps")
        if known is not None and not self.at_known:
            self.remember(known, point)
        self.look(point)
        return point

    def last_known(self) -> Point | None:
        """The last known point, unless the function it is of has changed."""
        return None if self.vectors.function_changed() else self.known

    def stay(self, point: Point, here: bool) -> None:
        """Keep a point of the full-batch function for the next step."""
        if self.full_batch:
            value = point.value
            point.value = value.detach().clone() if isinstance(value, Tensor) else value  # let its graph go
            self.known, self.at_known = point, here

    def evaluate(self, evaluate: Evaluate, start: bool = False) -> Point:
        """Call the closure at the parameters as they are; nothing is read."""
        return self.here(*evaluate(), start=start)

    def here(self, value: object, loss: Tensor | float, start: bool = False) -> Point:
        """The present point, where the closure has just returned `value`."""
        return Point(self.vectors.position(), value, loss, self.vectors.gradient(start=start))

    def _check_promise(self, one: Point, other: Point, what: str) -> None:
        """Compare two evaluations at the same parameters. Points that differ, or are not finite, tell nothing."""
        off, moved = other.gradient.vector - one.gradient.vector, (other.x != one.x).any()
        (off,), (size,), (moved,), (f1,), (f2,) = self.vectors.read(
            [self.vectors.dot(off, off), one.gradient.norm_sq, moved], [one.loss, other.loss]
        )
        if moved or not (math.isfinite(f1) and math.isfinite(size)):
            return
        tolerance = min(1e3 * self._eps(one.loss), 0.05)  # the latter for losses in half precision
        same_loss = abs(f2 - f1) <= tolerance * max(abs(f1), abs(f2))
        same_gradient = off <= min(1e3 * tolerance, 0.1) ** 2 * size
        if not (same_loss and same_gradient):  # NaN is not the same
            cleared = "other gradients (does the closure clear them before backward?)"
            gave = f"the same loss {f1!r} but {cleared}" if same_loss else f"the losses {f1!r} and {f2!r}"
            raise BrokenPromise(
                f"full_batch=True: {what} gave {gave} at the same parameters. The closure must "
                "be the same function each time: no dropout (call model.eval(), or fix the mask), no batch norm whose "
                "statistics move, no resampling of the batch or of collocation points, inside the closure or from one "
                "step to the next. Otherwise leave full_batch=False"
            )
        self.promise_checked = True

    def look(self, point: Point, if_here: bool = False) -> bool:
        """Read a point, and the last pair, to the host by one transfer; judge the pair.

        if_here: only if the parameters are still point.x, bit for bit. Returns whether they are; if not, nothing
        has changed.
        """
        vectors, history, g = self.vectors, self.history, point.gradient.vector
        moved = vectors.moved(point.x) if if_here else False
        if moved is True:
            return False
        chained = history.staged is not None and point.pair is history.staged
        wanted = {"of_g": history.times(g), "gx": self._squares(point)}
        if isinstance(moved, Tensor):
            wanted["moved"] = moved
        if math.isnan(point.gg):  # else both are known from the search that ended here
            wanted |= {"gg": vectors.dot(g, g), "norm_sq": point.gradient.norm_sq}
        if (penalty := vectors.penalty()) is not None:
            wanted["penalty"] = penalty
        if history.staged:
            wanted |= history.of_staged(with_y=not chained)
        *lists, (loss,) = vectors.read([*wanted.values()], [point.loss])
        read = dict(zip(wanted, lists, strict=True))
        if "moved" in read and read["moved"] != [0.0]:
            return False
        self._take(point, loss, {name: values[0] for name, values in read.items() if len(values) == 1})
        before, self.of_g = self.of_g, history.products(read["of_g"])
        if history.staged:
            of_y = _difference(self.of_g, before) if chained else history.products(read["of_y"])
            dots = [read[name][0] for name in ("ss", "sy", "yy")]
            history.add(dots, self.of_g, of_y, history.products(read["of_s"]) if "of_s" in read else None)
        self.looks += 1
        point.look, point.pair = self.looks, None
        return True

    def _take(self, point: Point, loss: float, read: dict[str, float]) -> None:
        """Keep what was read of a point."""
        g = point.gradient.vector
        if math.isnan(point.gg):
            point.gg = self._in_range(read["gg"], lambda wide: self.vectors.dot(wide(g), wide(g)))
            norm_sq = point.gg if self.vectors.scale is None else self._norm_sq(read["norm_sq"], g)
            point.grad_norm = math.sqrt(norm_sq) if norm_sq >= 0 else math.nan
        point.f, point.loss_read = self.vectors.objective(loss, read.get("penalty", 0.0)), loss
        self._gx = math.sqrt(max(self._in_range(read["gx"], lambda wide: self._squares(point, wide)), 0.0))

    def _squares(self, point: Point, wide: Callable[[Tensor], Tensor] = lambda v: v) -> Tensor:
        """Σ (g_i x_i)², 0-d, for `_noise`."""
        gx = wide(point.gradient.vector) * wide(self.vectors.inward(point.x))
        return self.vectors.dot(gx, gx)

    # ---- one iteration
    def direction(self, point: Point) -> tuple[Tensor, float]:
        """p = −Hg at a point that was looked at, and its slope gᵀp. −g where the history is of no use."""
        if self.history:
            found = self.history.direction(self.of_g, point.gg)
            if math.isfinite(found.slope) and found.slope < 0:
                return self.history.combine(found, point.gradient.vector), found.slope
            self.history.clear()
        return -point.gradient.vector, -point.gg

    def line_search(self, start: Point, evaluate: Evaluate, max_evals: int, first_trial: float = 1.0) -> Search:
        """Search along −Hg and leave the parameters at the best finite point that was seen.

        Whatever ends the search early (an exception of the closure, Ctrl-C) puts them back to the start.
        """
        if not (start.finite and math.isfinite(start.gg)):
            return Search(start, start, 0.0, "non_finite")
        if start.gg == 0.0:
            return Search(start, start, 0.0, "converged" if self.vectors.any_active() else "no_gradient")
        if first_trial == 0.0:
            return Search(start, start, 0.0, "lr_zero")
        if max_evals < 1:
            return Search(start, start, 0.0, "max_evals")
        p, slope = self.direction(start)
        p = self.vectors.masked(p)
        first = first_trial if self.history else first_trial * min(1.0, 1.0 / math.sqrt(start.gg))  # of length ≤ 1
        outward = self.vectors.outward(p)
        best, best_sample, last_t = start, Sample(0.0, start.f, slope), 0.0

        def phi(t: float) -> Sample:
            nonlocal best, best_sample, last_t
            self.vectors.move(start.x, t, outward)
            last_t = t
            point, dslope = self._trial(start, p, t, *evaluate())
            sample = Sample(t, point.f, dslope)
            if better(sample, best_sample):
                best, best_sample = point, sample
            return sample

        noise = self._noise(start)
        try:
            result = search(phi, best_sample, first, max_evals=max_evals, noise=noise)
        except BaseException:
            self.vectors.restore(start.x)
            raise
        if result.status == "failed":
            self.vectors.restore(start.x)
            return Search(start, start, 0.0, self._failed(-slope, first, noise, result.evals, max_evals))
        self.failures = 0
        if result.best.t != last_t:
            self.vectors.move(start.x, result.best.t, outward)
        best.x = self.vectors.position()
        # One step that gains nothing may be a bad step; if nothing was to be expected of it either, this is the end.
        gained_nothing = start.f - best.f <= noise and best.grad_norm >= 0.5 * start.grad_norm
        converged = gained_nothing and -slope * first <= 4.0 * noise
        return Search(start, best, result.best.t, "converged" if converged else None)

    def _trial(self, start: Point, p: Tensor, t: float, value: object, loss: Tensor | float) -> tuple[Point, float]:
        """A trial point x + t p of a search from `start`, read to the host, and the slope there. Its x is not set."""
        vectors = self.vectors
        gradient = vectors.gradient()
        g, g0 = gradient.vector, start.gradient.vector
        wanted = {"slope": vectors.dot(g, p), "norm_sq": gradient.norm_sq, "turn": vectors.dot(g, g0)}
        if vectors.scale is not None:
            wanted["gg"] = vectors.dot(g, g)
        if (lost := vectors.lost(t)) is not None:
            wanted["lost"] = lost
        if (penalty := vectors.penalty()) is not None:
            wanted["penalty"] = penalty
        *lists, (loss_read,) = vectors.read([*wanted.values()], [loss])
        read = {name: value for name, (value,) in zip(wanted, lists, strict=True)}
        slope = self._in_range(read["slope"], lambda wide: vectors.dot(wide(g), wide(p)))
        norm_sq = self._norm_sq(read["norm_sq"], g)
        gg = self._in_range(read["gg"], lambda wide: vectors.dot(wide(g), wide(g))) if "gg" in read else norm_sq
        f = vectors.objective(loss_read, read.get("penalty", 0.0))
        grad_norm = math.sqrt(norm_sq) if norm_sq >= 0 else math.nan
        point = Point(start.x, value, loss, gradient, f, loss_read, grad_norm, gg)
        point.y_norm_sq = point.gg - 2.0 * read["turn"] + start.gg
        return point, math.nan if read.get("lost") or not math.isfinite(norm_sq) else slope

    def _failed(self, decrease: float, first: float, noise: float, evals: int, max_evals: int) -> str:
        """The stop reason of a search that found nothing lower."""
        self.history.clear()
        self.failures += 1
        if decrease * first <= 100.0 * noise:
            return "converged"  # what could be gained is less than what the loss can show
        if self.failures >= 2:
            return "no_progress"
        return "max_evals" if evals >= max_evals else "search_failed"

    def _in_range(self, product: float, anew: Callable[[Callable], Tensor]) -> float:
        """An inner product as it is, or anew in float64 where float32 may have over- or underflowed.

        anew: computes it from vectors that were widened by its argument.
        """
        wide = self.vectors.wide
        if 1e-30 < abs(product) < math.inf or self.vectors.dtype == wide:
            return product
        return self.vectors.read([anew(lambda v: v.to(wide))])[0][0]

    def _norm_sq(self, norm_sq: float, g: Tensor) -> float:
        """‖·‖² of the plain gradient, which in the metric's variables is g, as it is or anew."""
        if 1e-30 < norm_sq < math.inf:
            return norm_sq
        plain = self.vectors.inward(g)
        return self._in_range(norm_sq, lambda wide: self.vectors.dot(wide(plain), wide(plain)))

    # ---- after a step
    def stage(self, start: Point, end: Point) -> Staged:
        """Write (s, y) between two evaluated points of one function, in the metric's variables, into the history."""
        s = (end.x, start.x)
        if self.vectors.scale is not None:
            difference = self.vectors.inward(end.x - start.x)
            s = (difference, torch.zeros_like(difference))
        return self.history.stage(s, (end.gradient.vector, start.gradient.vector))

    def remember(self, start: Point, end: Point) -> None:
        """Take (s, y) between two points as the pair to come.

        If the products with the gradient at the start are known, those with y will be a difference. That is not as
        accurate where y is short against the gradient.
        """
        staged = self.stage(start, end)
        close = (0.03 if self.vectors.dtype == torch.float32 else 3e-6) ** 2
        if start.look == self.looks > 0 and end.y_norm_sq >= close * end.gg:
            end.pair = staged

    def rescale(self, scale: Tensor | None) -> None:
        """Go over to the variables z = x / scale, (d,), with what was collected in plain ones."""
        if scale is None:
            return
        vectors, history = self.vectors, self.history
        vectors.scale = scale
        for i in history.slots:
            history.S[i].copy_(vectors.inward(history.S[i].to(vectors.dtype)))
            history.Y[i].copy_(history.Y[i].to(vectors.dtype) * scale)
        if self.known is not None:
            gradient = self.known.gradient
            self.known.gradient = Gradient(gradient.vector * scale, gradient.norm_sq)

    def pair_verdict(self) -> Callable[[], str] | str | None:
        """What becomes of the pair to come: a function that reads it from the device when it is called, or, where
        other processes would have to read along, the answer. None without a pair.
        """
        history, staged = self.history, self.history.staged
        if staged is None:
            return None

        def say() -> str:
            return staged.reason or history.judge(*(dot for (dot,) in self.vectors.read(history.dots()))).reason

        return say if self.vectors.processes.alone else say()

    def loss_of(self, point: Point) -> Tensor | float:
        """The loss of a point that was not looked at; averaged now where other processes have theirs."""
        return point.loss if self.vectors.processes.alone else self.vectors.read([], [point.loss])[0][0]

    def _noise(self, start: Point) -> float:
        """How far the computed loss may be off: the rounding of f itself, and that of x seen through the gradient.

        The latter, ε sqrt(Σ (g_i x_i)²) if the x_i are rounded independently, is what remains where the minimum is 0.
        """
        return self._eps(start.loss) * max(abs(start.f), self._gx if math.isfinite(self._gx) else 0.0)

    def _eps(self, loss: Tensor | float) -> float:
        """The rounding error of a loss, relative to it. A Python float says nothing; the parameters do."""
        known = isinstance(loss, Tensor) and loss.dtype.is_floating_point
        return torch.finfo(loss.dtype if known else self.vectors.dtype).eps


def _difference(products: Tensor, before: Tensor) -> Tensor:
    """Of the rows that both have. A row that was not there before is the pair's own, which nobody asks for."""
    n = min(len(products), len(before))
    return products[:n] - before[:n]
