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

from fuse_lib.optim.history import HOST, History, Pair
from fuse_lib.optim.line_search import Sample, better, search
from fuse_lib.optim.vectors import Gradient, Vectors

Evaluate = Callable[[], tuple[object, "Tensor | float"]]  # () → (the closure's value, it as a scalar)


class BrokenPromise(RuntimeError):
    """full_batch=True was promised, but two calls of the closure at one point gave different losses."""


@dataclass
class Point:
    """A point where the closure was evaluated.

    x: parameters, (d,). value: what the closure returned. loss: it as a float or a 0-d tensor.
    gradient: there. f, loss_read, grad_norm: objective, loss and ‖g‖ on the host, once they were read.
    """

    x: Tensor
    value: object
    loss: Tensor | float
    gradient: Gradient
    f: float = math.nan
    loss_read: float = math.nan
    grad_norm: float = math.nan

    @property
    def finite(self) -> bool:
        """Whether a step can start here. Known once the point was read."""
        return math.isfinite(self.f) and math.isfinite(self.grad_norm)


@dataclass
class Search:
    """Where one line search along p ended. t = 0 and end = start where it found no step."""

    start: Point
    end: Point
    t: float
    stop_reason: str | None


@dataclass
class SecondOrder:
    """The state of the second phase and its iteration.

    vectors: the parameters. history: the curvature memory. full_batch: the closure is one function.
    pair: the last step's pair, not yet in the history.
    known: the last point where the full-batch function was evaluated. at_known: whether the parameters were
        left there; otherwise a first-order or blended step led away from it.
    failures: searches in a row that found no lower loss.
    promise_checked: whether full_batch was tested within a step. (From one step to the next it is tested
        after each failure.)
    """

    vectors: Vectors
    history: History
    full_batch: bool = False
    pair: Pair | None = None
    known: Point | None = None
    at_known: bool = False
    failures: int = 0
    promise_checked: bool = False
    _sg: Tensor = field(init=False, repr=False)
    _yg: Tensor = field(init=False, repr=False)
    _gg: float = field(init=False, default=math.nan, repr=False)
    _g1: float = field(init=False, default=math.nan, repr=False)
    _gx: float = field(init=False, default=math.nan, repr=False)  # Σ|g_i x_i|, see _noise

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
        if reusable and not doubted and not self.look(known, self.vectors.position()):
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
            raise BrokenPromise(
                f"full_batch=True: {what} gave the losses {f1!r} and {f2!r} at the same parameters. The closure must "
                "be the same function each time: no dropout (call model.eval(), or fix the mask), no batch norm whose "
                "statistics move, no resampling of the batch or of collocation points, inside the closure or from one "
                "step to the next. Otherwise leave full_batch=False"
            )
        self.promise_checked = True

    def look(self, point: Point, here: Tensor | None = None) -> bool:
        """Read a point, and the last pair, to the host; put the pair into the history.

        here: the present parameters. Returns True, and changes nothing, where they are not point.x.
        """
        g, history, pair = point.gradient.vector, self.history, self.pair
        dot, needs_norm_1 = self.vectors.dot, not history
        inner = [dot(g, g), point.gradient.norm_sq, dot(g.abs(), self.vectors.inward(point.x).abs()), *history.times(g)]
        if here is not None:
            inner.append((here != point.x).any())
        if needs_norm_1:
            inner.append(dot(g, g.sign()))
        penalty = self.vectors.penalty()
        if penalty is not None:
            inner.append(penalty)
        if pair is not None:
            inner += [dot(pair.s, g), dot(pair.y, g), *history.products(pair)]
        *read, (loss,) = self.vectors.read(inner, [point.loss])
        numbers = iter(read)
        ((gg,), (norm_sq,), (gx,), sg, yg) = (next(numbers) for _ in range(5))
        if here is not None and next(numbers)[0]:
            return True
        self._g1 = next(numbers)[0] if needs_norm_1 else math.nan
        penalty = 0.0 if penalty is None else next(numbers)[0]
        self._gg, self._gx = self._in_range(gg, g, g), gx
        norm_sq = self._gg if self.vectors.scale is None else norm_sq
        point.f, point.loss_read = self.vectors.objective(loss, penalty), loss
        if math.isnan(point.grad_norm):  # else it is known from the search that ended here
            point.grad_norm = math.sqrt(norm_sq) if norm_sq >= 0 else math.nan
        rows = torch.zeros(2, history.size, **HOST)
        rows[:, : len(sg)] = torch.tensor([sg, yg], **HOST)
        self._sg, self._yg = rows
        if pair is not None:
            (s_g,), (y_g,), *products = numbers
            history.add(pair, products, self._sg, self._yg, [s_g, y_g])
            self.pair = None
        return False

    # ---- one iteration
    def direction(self, point: Point) -> tuple[Tensor, float]:
        """p = −Hg at a point that was looked at, and its slope gᵀp. −g where the history is of no use."""
        if self.history:
            found = self.history.direction(self._sg, self._yg, self._gg)
            if math.isfinite(found.slope) and found.slope < 0:
                return self.history.combine(found, point.gradient.vector), found.slope
            self.history.clear()
        return -point.gradient.vector, -self._gg

    def line_search(self, start: Point, evaluate: Evaluate, max_evals: int, first_trial: float = 1.0) -> Search:
        """Search along −Hg and leave the parameters at the best finite point that was seen.

        Whatever ends the search early (an exception of the closure, Ctrl-C) puts them back to the start.
        """
        if not (start.finite and math.isfinite(self._gg)):
            return Search(start, start, 0.0, "non_finite")
        if self._gg == 0.0:
            return Search(start, start, 0.0, "converged" if self.vectors.any_active() else "no_gradient")
        if first_trial == 0.0:
            return Search(start, start, 0.0, "lr_zero")
        if max_evals < 1:
            return Search(start, start, 0.0, "max_evals")
        p, slope = self.direction(start)
        p = self.vectors.masked(p)
        first = first_trial if self.history else first_trial * min(1.0, 1.0 / self._norm_1(start))
        outward = self.vectors.outward(p)
        best = last = start
        best_sample = Sample(0.0, start.f, slope)

        def phi(t: float) -> Sample:
            nonlocal best, last, best_sample
            self.vectors.move(start.x, t, outward)
            value, loss = evaluate()
            gradient = self.vectors.gradient()
            penalty = self.vectors.penalty()
            inner = [self.vectors.dot(gradient.vector, p), gradient.norm_sq, *([] if penalty is None else [penalty])]
            (dslope,), (norm_sq,), *penalty, (f,) = self.vectors.read(inner, [loss])
            penalty = penalty[0][0] if penalty else 0.0
            dslope = self._in_range(dslope, gradient.vector, p)
            norm_sq = self._in_range(norm_sq, gradient.vector, gradient.vector)
            sample = Sample(t, self.vectors.objective(f, penalty), dslope if math.isfinite(norm_sq) else math.nan)
            grad_norm = math.sqrt(norm_sq) if norm_sq >= 0 else math.nan
            last = Point(start.x, value, loss, gradient, sample.f, f, grad_norm)
            if better(sample, best_sample):
                best, best_sample = last, sample
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
        if best is not last:
            self.vectors.move(start.x, result.best.t, outward)
        best.x = self.vectors.position()
        # One step that gains nothing may be a bad step; if nothing was to be expected of it either, this is the end.
        gained_nothing = start.f - best.f <= noise and best.grad_norm >= 0.5 * start.grad_norm
        converged = gained_nothing and -slope * first <= 4.0 * noise
        return Search(start, best, result.best.t, "converged" if converged else None)

    def _failed(self, decrease: float, first: float, noise: float, evals: int, max_evals: int) -> str:
        """The stop reason of a search that found nothing lower."""
        self.history.clear()
        self.pair = None
        self.failures += 1
        if decrease * first <= 100.0 * noise:
            return "converged"  # what could be gained is less than what the loss can show
        if self.failures >= 2:
            return "no_progress"
        return "max_evals" if evals >= max_evals else "search_failed"

    def _norm_1(self, point: Point) -> float:
        """‖g‖₁ at a point that was looked at."""
        if math.isnan(self._g1):  # the history was there then, and has been cleared since
            g = point.gradient.vector
            self._g1 = self.vectors.read([self.vectors.dot(g, g.sign())])[0][0]
        return self._g1

    def _in_range(self, product: float, a: Tensor, b: Tensor) -> float:
        """An inner product as it is, or anew in float64 where float32 may have over- or underflowed."""
        if 1e-30 < abs(product) < math.inf or a.dtype == self.vectors.wide:
            return product
        return self.vectors.read([self.vectors.dot(a.to(self.vectors.wide), b.to(self.vectors.wide))])[0][0]

    # ---- after a step
    def difference(self, start: Point, end: Point) -> Pair:
        """(s, y) between two evaluated points of one function, in the metric's variables."""
        s = self.vectors.inward(end.x - start.x)
        return self.history.rounded(s, end.gradient.vector - start.gradient.vector)

    def remember(self, start: Point, end: Point) -> None:
        """Take (s, y) between two points as the pair to come."""
        self.pair = self.difference(start, end)

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
        pair = self.pair
        if pair is None:
            return None

        def say() -> str:
            return self.history.judge(*self.vectors.read([self.history.dots(pair)])[0]).reason

        return say if self.vectors.processes.alone else say()

    def loss_of(self, point: Point) -> Tensor | float:
        """The loss of a point that was not looked at; averaged now where other processes have theirs."""
        return point.loss if self.vectors.processes.alone else self.vectors.read([], [point.loss])[0][0]

    def _noise(self, start: Point) -> float:
        """How far the computed loss may be off: the rounding of f itself, and that of x seen through the gradient.

        The latter, ε Σ|g_i x_i|, is what remains where the minimum is 0.
        """
        return self._eps(start.loss) * max(abs(start.f), self._gx if math.isfinite(self._gx) else 0.0)

    def _eps(self, loss: Tensor | float) -> float:
        """The rounding error of a loss, relative to it. A Python float says nothing; the parameters do."""
        known = isinstance(loss, Tensor) and loss.dtype.is_floating_point
        return torch.finfo(loss.dtype if known else self.vectors.dtype).eps

    # ---- checkpoints
    def in_use(self) -> bool:
        """Whether there is anything to save."""
        return self.history.S is not None or self.pair is not None or self.known is not None

    def state(self) -> tuple[dict[str, object], dict[str, Tensor]]:
        """(numbers and small tensors, vectors by name). The names depend on the settings only."""
        known, pair = self.known, self.pair
        numbers = {
            **self.history.state(),
            "failures": self.failures,
            "promise_checked": self.promise_checked,
            "has_pair": pair is not None,
        }
        vectors = dict(zip("sy", pair or (self._nothing(), self._nothing()), strict=True))
        if self.history.S is not None:
            vectors |= {"S": self.history.S, "Y": self.history.Y}
        if self.vectors.scale is not None:
            vectors["scale"] = self.vectors.scale
        if self.full_batch:
            loss = 0.0 if known is None else known.loss
            as_tensor = isinstance(loss, Tensor)  # a float is no tensor of the parameters' dtype; see _eps
            numbers |= {"has_known": known is not None, "at_known": self.at_known, "loss_is_tensor": as_tensor}
            numbers["loss"] = loss if as_tensor else torch.tensor(loss, **HOST)
            numbers["grad_norm"] = math.nan if known is None else known.grad_norm
            vectors["x"] = self._nothing() if known is None else known.x
            vectors["g"] = self._nothing() if known is None else known.gradient.vector
        return numbers, vectors

    def _nothing(self) -> Tensor:
        """A place to load a vector into: a tensor of its own each time, for it may be filled in place."""
        return torch.zeros(self.vectors.numel, dtype=self.vectors.dtype, device=self.vectors.device)

    def load(self, numbers: dict, vectors: dict[str, Tensor]) -> None:
        """Take over a state, by copying. ValueError where it does not fit; then nothing is changed."""
        self.history.load(numbers, vectors.get("S"), vectors.get("Y"))
        like = {"dtype": self.vectors.dtype, "device": self.vectors.device}
        own = {name: v.to(**like, copy=True) for name, v in vectors.items() if name not in ("S", "Y")}
        self.failures = int(numbers["failures"])
        self.promise_checked = bool(int(numbers["promise_checked"]))
        self.pair = Pair(own["s"], own["y"]) if int(numbers["has_pair"]) else None
        self.vectors.scale = own.get("scale")
        self.known, self.at_known = None, bool(int(numbers.get("at_known", 0)))
        if self.full_batch and int(numbers.get("has_known", 0)):
            loss = numbers["loss"].clone() if numbers["loss_is_tensor"] else float(numbers["loss"])
            gradient = Gradient(own["g"], self.vectors.dot(own["g"], own["g"]))
            self.known = Point(own["x"], loss, loss, gradient, grad_norm=float(numbers["grad_norm"]))
