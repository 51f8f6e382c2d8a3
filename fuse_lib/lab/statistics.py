"""From many runs to a statement: 95 % intervals of means, paired differences, ratios of variances, the sign test.

Runs of one seed share their initial parameters and the order of their rows. So two optimizers are compared within a
seed, and what has an interval is the mean of the differences:

    d̄ ± t_{n−1} · s_d / √n          s_d: standard deviation of the n differences (divisor n − 1), t: Student's quantile

It supposes that the differences are independent draws of about a normal distribution, which five seeds cannot show. It
says nothing of other data sets, and of twenty such intervals one misses its mean on average.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Interval(NamedTuple):
    """A mean with its confidence interval, low to high, in the units of the values; n: how many values."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """The mean of values and its confidence interval by Student's t.

    values: numbers, NaN among them left out (n says how many are left).
    level: of confidence, between 0 and 1. For k intervals that are to hold together, 1 − 0.05 / k (Bonferroni).

    Raises:
        ValueError: fewer than two values, an infinite one, or a level out of range.

    >>> [round(x, 3) for x in interval([0.002, -0.001, 0.003, 0.001, 0.000])]
    [0.001, -0.001, 0.003, 5]
    """
    from scipy.special import stdtrit

    if not 0.0 < level < 1.0:
        raise ValueError(f"level: got {level!r}; allowed is a number between 0 and 1")
    kept = [value for value in map(float, values) if not math.isnan(value)]
    if len(kept) < 2 or not all(map(math.isfinite, kept)):
        raise ValueError(f"values: got {kept}; allowed are two or more finite numbers")
    n = len(kept)
    mean = math.fsum(kept) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in kept) / (n - 1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired(
    table: pd.DataFrame,
    value: str,
    by: str | Sequence[str],
    among: str,
    contestant: object,
    baseline: object,
    level: float = 0.95,
) -> Interval:
    """The mean of contestant minus baseline, pair by pair, with its confidence interval.

    table: one row a run. value: the column that is compared. by: the column or columns that make a pair, as "seed".
    among: the column that holds contestant and baseline, as "optimizer". level: as in `interval`.
    A pair counts where both its values are there and are no NaN; n says how many do.

    Raises:
        ValueError: contestant or baseline has no rows or several of one pair, or fewer than two pairs count.
        KeyError: a column that the table does not have.

    >>> import pandas as pd
    >>> runs = pd.DataFrame({"seed": [0, 1, 2] * 2, "by": ["FUSE-PV"] * 3 + ["Adam"] * 3, "loss": [3, 4, 8, 2, 4, 5]})
    >>> [round(x, 2) for x in paired(runs, "loss", "seed", "by", "FUSE-PV", "Adam")]
    [1.33, -2.46, 5.13, 3]
    """
    sides = []
    for name, who in (("contestant", contestant), ("baseline", baseline)):
        side = table[table[among] == who].set_index([by] if isinstance(by, str) else list(by))[value]
        if side.empty:
            allowed = ", ".join(map(repr, table[among].unique()))
            raise ValueError(f"{name}: got {who!r}; allowed in the column {among!r} is one of {allowed}")
        if not side.index.is_unique:
            twice = side.index[side.index.duplicated()][0]
            raise ValueError(
                f"by: got {by!r}; allowed is what tells all rows of {who!r} apart, but {twice} is there twice"
            )
        sides.append(side)
    return interval(sides[0] - sides[1], level)  # pandas aligns them: NaN where one is missing


class Ratio(NamedTuple):
    """The ratio of two variances with its confidence interval; degrees: of freedom, of either variance."""

    ratio: float
    low: float
    high: float
    degrees: tuple[int, int]


def variance_ratio(one: Iterable[Sequence[float]], other: Iterable[Sequence[float]], level: float = 0.95) -> Ratio:
    """The variance of one contestant's results over another's, and its interval by the F distribution.

    one, other: samples, as the five seeds of each batch size. Each counts about its own mean, so that n values in k
    samples have n − k degrees of freedom. level: as in `interval`.

    The interval leans on normality far more than Student's does, and is wide: with five values on either side it
    reaches a factor of 9.6 up and down.

    Raises:
        ValueError: a sample of fewer than two values, a value that is not finite, a variance of zero, or a level out of
            range.

    >>> found = variance_ratio([[1.0, 3.0, 5.0]], [[1.0, 2.0, 3.0]])
    >>> [round(x, 3) for x in found[:3]], found.degrees
    ([4.0, 0.103, 156.0], (2, 2))
    """
    from scipy.special import fdtri

    if not 0.0 < level < 1.0:
        raise ValueError(f"level: got {level!r}; allowed is a number between 0 and 1")
    (v1, d1), (v2, d2) = _pooled("one", one), _pooled("other", other)
    low, high = (float(fdtri(d1, d2, p)) for p in ((1 - level) / 2, (1 + level) / 2))
    return Ratio(v1 / v2, v1 / v2 / high, v1 / v2 / low, (d1, d2))


def _pooled(name: str, samples: Iterable[Sequence[float]]) -> tuple[float, int]:
    """Variance of the values about their samples' means, and its degrees of freedom."""
    samples = [[float(value) for value in sample] for sample in samples]
    squares, degrees = 0.0, 0
    for sample in samples:
        if len(sample) < 2 or not all(map(math.isfinite, sample)):
            raise ValueError(f"{name}: got a sample {sample}; allowed are two or more finite numbers")
        mean = math.fsum(sample) / len(sample)
        squares += math.fsum((value - mean) ** 2 for value in sample)
        degrees += len(sample) - 1
    if squares == 0.0:
        raise ValueError(f"{name}: got {samples}; allowed are samples that vary")
    return squares / degrees, degrees


def sign_test(more: int, fewer: int) -> float:
    """The two-sided probability of a split at least so uneven, were both outcomes equally likely. Ties are left out.

    more, fewer: how many pairs went one way and the other.

    Raises:
        ValueError: a negative number.

    >>> sign_test(9, 1)
    0.021484375
    """
    for name, count in (("more", more), ("fewer", fewer)):
        if count < 0:
            raise ValueError(f"{name}: got {count}; allowed is a number ≥ 0")
    n, tail = int(more + fewer), int(min(more, fewer))
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(tail + 1)) / 2**n)
