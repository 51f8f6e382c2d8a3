"""A strong Wolfe line search, on Python floats alone.

Along a descent direction p the loss is a function of one variable, φ(t) = f(x + t p). The search
looks for a step t that satisfies the *strong Wolfe conditions* (Nocedal & Wright, *Numerical
Optimization*, 2nd ed., eq. 3.7)

    φ(t) ≤ φ(0) + c1 t φ'(0)         sufficient decrease: the step earned its length
    |φ'(t)| ≤ c2 |φ'(0)|             curvature: the slope has flattened, so that sᵀy > 0

It first walks outwards until the minimum is bracketed (their algorithm 3.5), then shrinks the
bracket with safeguarded cubic interpolation (algorithm 3.6 and eq. 3.59).

Close to a minimum the first condition fails for a silly reason: φ(0) − φ(t) is smaller than the
rounding error of φ. There the slopes still tell the truth, so a step is also accepted by the
*approximate* Wolfe conditions (Hager & Zhang, SIAM J. Optim. 16, 2005, eq. 4.1)

    (2 c1 − 1) φ'(0) ≥ φ'(t) ≥ c2 φ'(0)

as long as φ(t) is within the rounding error of φ(0) and not above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

LONGEST = 1e20  # no step beyond: where φ still falls there, it has no minimum along this line


class Sample(NamedTuple):
    """What one evaluation of φ told: the step t, φ(t) and the slope φ'(t)."""

    t: float
    f: float
    slope: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.f) and math.isfinite(self.slope)


class Result(NamedTuple):
    """Where a search ended.

    best: the sample with the lowest finite f, the start among them.
    evals: how many times φ was evaluated.
    status: "wolfe" (strong Wolfe holds), "approximate" (only the approximate test holds), "best"
        (neither, but f went down) or "failed" (no finite trial below the start: best is the start).
    """

    best: Sample
    evals: int
    status: str


def better(a: Sample, b: Sample) -> bool:
    """Whether a finite sample lies below another; of two at the same height the flatter one does."""
    return a.finite and (a.f, abs(a.slope)) < (b.f, abs(b.slope))


def search(
    phi: Callable[[float], Sample],
    start: Sample,
    first: float,
    *,
    max_evals: int = 25,
    c1: float = 1e-4,
    c2: float = 0.9,
    noise: float | Callable[[], float] = 0.0,
) -> Result:
    """Find a step along a descent direction.

    Args:
        phi: t → Sample(t, φ(t), φ'(t)). A value that is not finite makes the search shorten the step.
        start: Sample(0, φ(0), φ'(0)), finite, with φ'(0) < 0.
        first: the first trial step, > 0 (1 is right for a quasi-Newton direction).
        max_evals: the search ends with the best sample seen after this many calls of phi.
        c1, c2: the Wolfe constants, 0 < c1 < c2 < 1.
        noise: the rounding error of φ, in the units of φ, or a function that computes it. It is not asked where the
            first trial passes the strong Wolfe conditions, as most do.

    Returns:
        Result. Its best sample is never above the start.

    >>> quadratic = lambda t: Sample(t, (t - 2) ** 2, 2 * (t - 2))
    >>> search(quadratic, quadratic(0.0), first=1.0)
    Result(best=Sample(t=1.0, f=1.0, slope=-2.0), evals=1, status='wolfe')
    """
    best = low = start  # low: the bracket's better end. Its slope points into the bracket.
    high: Sample | None = None  # the other end; None while no step was found to be too long
    widths = [math.inf, math.inf]  # of the last two brackets
    trial = min(first, LONGEST)
    evals = 0
    status = ""
    while evals < max_evals:
        new = phi(trial)
        evals += 1
        if better(new, best):
            best = new
        if new is best or not _decreases(start, best, c1):  # else the search goes on around the better sample
            status = _accepted(start, new, c1, c2, noise)
            if status:
                break
        noise = noise() if callable(noise) else noise
        previous, (low, high) = low, _bracket(start, low, high, new, c1, noise)
        if high is None:
            trial = _extrapolate(previous, low)
            if trial > LONGEST:
                break
            continue
        width = abs(high.t - low.t)
        if width * abs(low.slope) <= 0.01 * noise or width <= 1e-14 * max(low.t, high.t):
            break  # nothing that φ could show is left in the bracket
        slow = width > 0.66 * widths[0]  # compared with two trials ago
        trial = _interpolate(low, high, bisect=slow)
        widths = [widths[1], width]
    if best.f < start.f or (status and best is not start):
        return Result(best, evals, status or "best")
    return Result(start, evals, "failed")


def _decreases(start: Sample, new: Sample, c1: float) -> bool:
    """Whether the sample passes the test of sufficient decrease."""
    return new.f <= start.f + c1 * new.t * start.slope


def _accepted(start: Sample, new: Sample, c1: float, c2: float, noise: float) -> str:
    """Which of the two tests the sample passes, or ""."""
    if not new.finite:
        return ""
    if _decreases(start, new, c1) and abs(new.slope) <= -c2 * start.slope:
        return "wolfe"
    slope_is_right = (2 * c1 - 1) * start.slope >= new.slope >= c2 * start.slope
    if slope_is_right and new.f <= start.f and start.f - (noise() if callable(noise) else noise) <= new.f:
        return "approximate"
    return ""


def _bracket(start, low, high, new, c1, noise):
    """The bracket (low, high) after one more sample (Nocedal & Wright, alg. 3.5 and 3.6)."""
    if not new.finite:
        return low, Sample(new.t, math.inf, math.nan)
    flat = abs(new.f - low.f) <= noise  # the values cannot be told apart: believe the slope
    too_high = not _decreases(start, new, c1) or new.f >= low.f
    if too_high and not flat:
        return low, new
    ahead = 1.0 if high is None else high.t - low.t  # in which direction the bracket lies
    if new.slope * ahead >= 0:  # the minimum was passed: it lies between low and new
        return (new, low) if new.f <= low.f else (low, new)
    return new, high


def _extrapolate(previous: Sample, last: Sample) -> float:
    """The next trial beyond `last`, where φ still falls: by the cubic, 1.1 to 100 times as far.

    A quasi-Newton step of 1 seldom comes here. The first step of all does, whose length is a guess on the safe side.
    """
    guess = _cubic_minimum(previous, last)
    if not guess > last.t:  # NaN, or behind us, where φ falls: the samples hold no curvature yet
        return 10.0 * last.t
    return min(max(guess, 1.1 * last.t), 100.0 * last.t)


def _interpolate(low: Sample, high: Sample, bisect: bool) -> float:
    """The next trial inside the bracket."""
    width = high.t - low.t
    if not math.isfinite(high.f):  # no information at the far end: come back boldly
        return low.t + (0.5 if bisect else 0.1) * width
    if bisect:
        return low.t + 0.5 * width
    guess = _cubic_minimum(low, high)
    if not math.isfinite(guess):
        return low.t + 0.5 * width
    share = min(max((guess - low.t) / width, 0.02), 0.9)
    return low.t + share * width


def _cubic_minimum(a: Sample, b: Sample) -> float:
    """The minimum of the cubic through two samples and their slopes (Nocedal & Wright, eq. 3.59).

    NaN where that cubic has none.
    """
    if a.t == b.t:
        return math.nan
    try:
        d1 = a.slope + b.slope - 3 * (a.f - b.f) / (a.t - b.t)
        d2 = math.copysign(math.sqrt(d1 * d1 - a.slope * b.slope), b.t - a.t)
        return b.t - (b.t - a.t) * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)
    except (ValueError, ZeroDivisionError, OverflowError):
        return math.nan
