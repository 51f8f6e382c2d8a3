"""The second phase: one iteration of any method, from vectors, a method and the line search.

An iteration is four lines of mathematics:

    read the loss, the gradient's norm and what the method wants to know      (one read to the host)
    p = the method's direction; for L-BFGS −Hg                                (method.py and the files it names)
    find t by a strong Wolfe search along x + t p                             (one read a trial)
    x ← x + t p, and let the method remember the step and the gradient's change
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fuse_lib.optim import promise
from fuse_lib.optim.blocks import in_blocks
from fuse_lib.optim.history import History
from fuse_lib.optim.line_search import Sample, better, search
from fuse_lib.optim.method import Direction, Evaluate, Method
from fuse_lib.optim.noise import Noise
from fuse_lib.optim.noise import wanted as wanted_for_noise
from fuse_lib.optim.point import Point, Search
from fuse_lib.optim.vectors import Gradient, Vectors, in_range


@dataclass
class SecondOrder:
    """The state of the second phase and its iteration.

    vectors: the parameters. method: the direction and its memory. full_batch: the closure is one function.
    known: the last point where the full-batch function was evaluated. at_known: whether the parameters were
        left there; otherwise a first-order or blended step led away from it.
    failures: searches in a row that found no lower loss.
    promise_checked: whether full_batch was tested within a step. (From one step to the next it is tested
        after each failure.)
    """

    vectors: Vectors
    method: Method
    full_batch: bool = False
    known: Point | None = None
    at_known: bool = False
    failures: int = 0
    promise_checked: bool = False
    _of_noise: float = field(init=False, default=math.nan, repr=False)  # what was read for it; see noise.py

    @property
    def history(self) -> History | None:
        """The method's curvature pairs; None where it keeps none."""
        return self.method.history

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
            self.method.remember(known, point)
        self.look(point)
        return point

    def last_known(self) -> Point | None:
        """The last known point, unless the function it is of has changed."""
        return None if self.vectors.function_changed() else self.known

    def curvature(self) -> Tensor | None:
        """sᵀy from the last known point to here, 0-d, or None where there is none; .grad must be this point's."""
        known = self.last_known()
        if known is None or self.at_known:
            return None
        vectors = self.vectors
        return vectors.dot(vectors.position().sub_(known.x), vectors.gradient().vector - known.gradient.vector)

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
        self.promise_checked |= promise.check(self.vectors, one, other, self._eps(one.loss), what)

    def look(self, point: Point, if_here: bool = False) -> bool:
        """Read a point, and what the method wants to know of it, to the host by one transfer.

        if_here: only if the parameters are still point.x, bit for bit. Returns whether they are; if not, nothing
        has changed.
        """
        vectors, g = self.vectors, point.gradient.vector
        moved = vectors.moved(point.x) if if_here else False
        if moved is True:
            return False
        wanted = self.method.wanted(point)
        wanted["noise"] = self._for_noise(point) if point.for_noise is None else point.for_noise
        if isinstance(moved, Tensor):
            wanted["moved"] = moved
        if math.isnan(point.gg):  # else both are known from the search that ended here
            wanted["gg"] = vectors.dot(g, g)
            if point.gradient.norm_sq is not None:
                wanted["norm_sq"] = point.gradient.norm_sq
        if (penalty := vectors.penalty()) is not None:
            wanted["penalty"] = penalty
        *lists, (loss,) = vectors.read([*wanted.values()], [point.loss])
        read = dict(zip(wanted, lists, strict=True))
        if "moved" in read and read["moved"] != [0.0]:
            return False
        self._take(point, loss, read)
        self.method.seen(point, read)
        return True

    def _take(self, point: Point, loss: float, read: dict[str, list[float]]) -> None:
        """Keep what was read of a point."""
        g = point.gradient.vector
        if math.isnan(point.gg):
            point.gg = self._in_range(read["gg"][0], g, g)
            norm_sq = self._norm_sq(read["norm_sq"][0], g) if "norm_sq" in read else point.gg
            point.grad_norm = math.sqrt(norm_sq) if norm_sq >= 0 else math.nan
        penalty = read["penalty"][0] if "penalty" in read else 0.0
        point.f, point.loss_read = self.vectors.objective(loss, penalty), loss
        self._of_noise = read["noise"][0]

    def _for_noise(self, point: Point) -> Tensor:
        """What is to be read of a point for its noise, 0-d."""
        g, x = point.gradient.vector, self.vectors.inward(point.x)
        whole = self.vectors.weights is not None
        return in_blocks(lambda g, x: wanted_for_noise(self.vectors, g, x), g, x, whole=whole)[0]

    # ---- one iteration
    def iterate(self, start: Point, evaluate: Evaluate, max_evals: int, first_trial: float = 1.0) -> Search:
        """One iteration of the method from a point that was looked at.

        With a search the parameters are left at the best finite point that was seen; without one, at the step's end,
        which was not evaluated. Whatever ends it early (an exception of the closure, Ctrl-C) puts them back to the
        start.
        """
        if not (start.finite and math.isfinite(start.gg)):
            return Search(start, start, 0.0, "non_finite")
        if start.gg == 0.0:
            return Search(start, start, 0.0, "converged" if self.vectors.any_active() else "no_gradient")
        if first_trial == 0.0:
            return Search(start, start, 0.0, "lr_zero")
        if max_evals < 1:
            return Search(start, start, 0.0, "max_evals")
        try:
            if not self.method.searches:
                return self._step(start, evaluate)
            return self._search(start, self._direction(start, evaluate, max_evals), evaluate, max_evals, first_trial)
        except BaseException:
            self.vectors.restore(start.x)
            raise

    def _direction(self, start: Point, evaluate: Evaluate, max_evals: int) -> Direction:
        """The method's, or −g where it has none."""
        found = self.method.direction(start, evaluate, max_evals)
        return found or Direction(torch.neg(start.gradient.vector, out=self.vectors.take()), -start.gg)

    def _step(self, start: Point, evaluate: Evaluate) -> Search:
        """x + p without a search. Back to the start where that is not finite."""
        vectors = self.vectors
        p = self.method.step(start, evaluate)
        if p is None:
            vectors.restore(start.x)
            return Search(start, start, 0.0, "non_finite")
        vectors.move(start.x, 1.0, vectors.outward(vectors.masked(p)))
        x = vectors.position()
        (lost,), (moved,) = vectors.read([(~x.isfinite()).sum(), (x != start.x).sum()])
        if lost:
            vectors.restore(start.x)
            return Search(start, start, 0.0, "non_finite")
        self.method.taken()
        return Search(start, Point(x), 1.0, None if moved else "converged")  # a step may be lost in rounding

    def _search(
        self, start: Point, direction: Direction, evaluate: Evaluate, max_evals: int, first_trial: float
    ) -> Search:
        """A strong Wolfe search along a descent direction."""
        slope, vectors = direction.slope, self.vectors
        max_evals -= direction.evals
        p = vectors.masked(direction.p)
        first = first_trial * (min(1.0, 1.0 / math.sqrt(start.gg)) if direction.first is None else direction.first)
        outward = vectors.outward(p)
        y = self.method.change()  # of the last trial
        best, best_sample, last = start, Sample(0.0, start.f, slope), start

        def phi(t: float) -> Sample:
            nonlocal best, best_sample, last
            vectors.move(start.x, t, outward)
            if last is not start and last is not best:
                vectors.give(last.gradient.vector)
            last, dslope = self._trial(start, p, y, t, *evaluate())
            sample = Sample(t, last.f, dslope)
            if better(sample, best_sample):
                if best is not start:
                    vectors.give(best.gradient.vector)
                best, best_sample = last, sample
            return sample

        noise = Noise(vectors, start, self._eps(start.loss), self._of_noise)
        try:
            result = search(phi, best_sample, first, max_evals=max_evals, c2=self.method.curvature, noise=noise)
        except BaseException:
            y.zero_()  # it may lie in the method's memory, and a trial's gradient need not have been finite
            raise
        if result.status == "failed":
            vectors.restore(start.x)
            return Search(start, start, 0.0, self._failed(-slope, first, noise(), result.evals, max_evals))
        self.failures = 0
        if best is not last:
            vectors.move(start.x, result.best.t, outward)
            vectors.give(last.gradient.vector)
            torch.sub(best.gradient.vector, start.gradient.vector, out=y)
        best.x = vectors.position(out=p)  # p is not needed any more
        # One step that gains nothing may be a bad step; if nothing was to be expected of it either, this is the end.
        gained, expected = start.f - best.f, -slope * first
        converged = best.grad_norm >= 0.5 * start.grad_norm and gained <= noise.at_most
        converged = converged and expected <= 4.0 * noise.at_most and gained <= noise() and expected <= 4.0 * noise()
        fall = slope - best_sample.slope  # of the slope, ≥ 0 where there is no curvature along p
        minimum = best_sample.t * slope / fall if fall < 0 else 0.0
        return Search(start, best, result.best.t, "converged" if converged else None, y, minimum, slope)

    def _trial(
        self, start: Point, p: Tensor, y: Tensor, t: float, value: object, loss: Tensor | float
    ) -> tuple[Point, float]:
        """A trial point x + t p of a search from `start`, read to the host, and the slope there. Its x is not set.

        y: (d,), where its gradient minus the start's is written.
        """
        vectors = self.vectors
        gradient = vectors.gradient()
        g = gradient.vector
        sums = in_blocks(self._trial_sums, g, start.gradient.vector, p, y, whole=vectors.weights is not None)
        wanted = dict(zip(("gg", "slope", "yy"), sums, strict=True))
        if gradient.norm_sq is not None:
            wanted["norm_sq"] = gradient.norm_sq
        if (lost := vectors.lost(t)) is not None:
            wanted["lost"] = lost
        if (penalty := vectors.penalty()) is not None:
            wanted["penalty"] = penalty
        *lists, (loss_read,) = vectors.read([*wanted.values()], [loss])
        read = {name: value for name, (value,) in zip(wanted, lists, strict=True)}
        slope, gg = self._in_range(read["slope"], g, p), self._in_range(read["gg"], g, g)
        norm_sq = self._norm_sq(read["norm_sq"], g) if "norm_sq" in read else gg
        f = vectors.objective(loss_read, read.get("penalty", 0.0))
        grad_norm = math.sqrt(norm_sq) if norm_sq >= 0 else math.nan
        point = Point(start.x, value, loss, gradient, f, loss_read, grad_norm, gg, sums[2], read["yy"])
        return point, math.nan if read.get("lost") or not math.isfinite(norm_sq) else slope

    def _trial_sums(self, g: Tensor, g0: Tensor, p: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y ← g − g0, and gᵀg, gᵀp, yᵀy."""
        torch.sub(g, g0, out=y)
        dot = self.vectors.dot
        return dot(g, g), dot(g, p), dot(y, y)

    def _failed(self, decrease: float, first: float, noise: float, evals: int, max_evals: int) -> str:
        """The stop reason of a search that found nothing lower."""
        self.method.clear()
        self.failures += 1
        if decrease * first <= 100.0 * noise:
            return "converged"  # what could be gained is less than what the loss can show
        if self.failures >= 2:
            return "no_progress"
        return "max_evals" if evals >= max_evals else "search_failed"

    def _in_range(self, product: float, a: Tensor, b: Tensor) -> float:
        """The inner product aᵀb as it is, or anew in float64 where float32 may have over- or underflowed."""
        wide = self.vectors.wide
        if in_range(abs(product)) or self.vectors.dtype == wide:
            return product
        return self.vectors.read([self.vectors.dot(a.to(wide), b.to(wide))])[0][0]

    def _norm_sq(self, norm_sq: float, g: Tensor) -> float:
        """‖·‖² of the plain gradient, which in the metric's variables is g, as it is or anew."""
        if in_range(norm_sq):
            return norm_sq
        plain = self.vectors.inward(g)
        return self._in_range(norm_sq, plain, plain)

    # ---- after a step
    def remember(self, found: Search) -> None:
        """Let the method remember a step. Its start's vectors are given back."""
        if found.end.evaluated:
            self.method.searched(found)
        if self.known is found.start:
            self.known = None
        self.vectors.give(found.start.x, found.start.gradient.vector)

    def rescale(self, scale: Tensor | None) -> None:
        """Go over to the variables z = x / scale, (d,), with what was collected in plain ones."""
        if scale is None:
            return
        self.vectors.scale = scale
        self.method.rescale(scale)
        if self.known is not None:
            gradient = self.known.gradient
            self.known.gradient = Gradient(gradient.vector * scale, gradient.norm_sq)

    def leave(self) -> None:
        """The phase is over, and may begin anew some time: forget everything but that the promise was tested."""
        self.method.forget()
        self.known, self.failures = None, 0
        if self.vectors.scale is not None:
            self.vectors.scale = torch.ones_like(self.vectors.scale)

    def loss_of(self, point: Point) -> Tensor | float:
        """The loss of a point that was not looked at; averaged now where other processes have theirs."""
        return point.loss if self.vectors.processes.alone else self.vectors.read([], [point.loss])[0][0]

    def _eps(self, loss: Tensor | float) -> float:
        """The rounding error of a loss, relative to it. A Python float says nothing; the parameters do."""
        known = isinstance(loss, Tensor) and loss.dtype.is_floating_point
        return torch.finfo(loss.dtype if known else self.vectors.dtype).eps
