"""From runs to a statement: 95 % intervals of means, paired differences, ratios and shares of variance, the sign test.

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


def geometric_mean(ratios: Iterable[float], level: float = 0.95) -> Interval:
    """The geometric mean of ratios and its confidence interval: that of their logarithms, taken back.

    A half and a double cancel in it. ratios: numbers > 0, NaN among them left out. level: as in `interval`.

    Raises:
        ValueError: a ratio that is not positive, or what `interval` does not take.

    >>> [round(x, 3) for x in geometric_mean([0.5, 2.0, 1.0])]
    [1.0, 0.179, 5.595, 3]
    """
    ratios = [float(ratio) for ratio in ratios]
    if any(ratio <= 0 for ratio in ratios):
        raise ValueError(f"ratios: got {min(ratios)}; allowed are numbers > 0")
    found = interval(map(math.log, ratios), level)
    return Interval(*map(math.exp, found[:3]), found.n)


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


def variance_shares(
    table: pd.DataFrame, value: str, factors: tuple[str, str], by: str = "seed", draws: int = 2000, level: float = 0.95
) -> dict[str, Interval]:
    """What share of the variance of a column two factors explain, each alone and both together.

    The two-way analysis of variance of a balanced table, y = μ + a_i + b_j + (ab)_ij + e_ijk, whose sums of squares add
    up: the shares of a, of b, of their interaction ("both") and of what differs between repetitions ("rest").

    table: one row a run. value: the column. factors: the columns of a and b. by: the column of the repetitions, as the
        seed, which is the same in all cells. draws: of the bootstrap, which draws whole repetitions with replacement
        (so that "rest" comes out low: the same repetition is drawn twice); level: of its percentile interval.

    Returns: factor (or "both", "rest") → share between 0 and 1, with its interval.

    Raises:
        ValueError: a cell is missing or there twice, a value is not finite, all are alike, or there is one repetition.

    >>> import pandas as pd
    >>> rows = [(a, b, s, 3 * a + b + 0.1 * s) for a in range(3) for b in range(3) for s in range(4)]
    >>> found = variance_shares(pd.DataFrame(rows, columns=["a", "b", "seed", "y"]), "y", ("a", "b"))
    >>> {name: round(share.mean, 2) for name, share in found.items()}
    {'a': 0.9, 'b': 0.1, 'both': 0.0, 'rest': 0.0}
    """
    import numpy as np

    one, other = factors
    cells = table.set_index([one, other, by])[value].sort_index()
    sizes = [len(cells.index.unique(k)) for k in range(3)]
    if not cells.index.is_unique or len(cells) != math.prod(sizes) or sizes[2] < 2:
        raise ValueError(
            f"table: got {len(cells)} rows for {sizes[0]} × {sizes[1]} cells and {sizes[2]} of {by!r}; allowed is each "
            "combination once, and two repetitions or more"
        )
    y = cells.to_numpy(float).reshape(sizes)
    if not np.isfinite(y).all() or np.ptp(y) == 0.0:
        raise ValueError(
            f"value: the column {value!r} has values that are not finite, or all alike; allowed are others"
        )

    def shares(y: np.ndarray) -> np.ndarray:
        """(…, i, j, k) → (…, 4)."""
        y = y - y.mean((-3, -2, -1), keepdims=True)
        cell = y.mean(-1)
        a, b = (cell.mean(axis) for axis in (-1, -2))
        parts = [np.square(x).mean(axis) for x, axis in ((a, -1), (b, -1), (cell, (-2, -1)), (y, (-3, -2, -1)))]
        return np.stack([*parts[:2], parts[2] - parts[0] - parts[1], parts[3] - parts[2]], -1) / parts[3][..., None]

    drawn = np.random.default_rng(0).integers(0, sizes[2], (draws, sizes[2]))
    low, high = np.quantile(shares(np.moveaxis(y[..., drawn], -2, 0)), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {
        name: Interval(*map(float, numbers), sizes[2])
        for name, *numbers in zip((one, other, "both", "rest"), shares(y), low, high, strict=True)
    }


def best_in_hindsight(costs: pd.DataFrame) -> pd.Series:
    """What the best of several fixed choices costs, repetition by repetition, were it known beforehand.

    The column with the lowest mean is not simply taken: the lowest of several noisy means is low by luck as well (the
    winner's curse), and no rule could match it. The rows are dealt out in turn to two halves, and each half pays for
    the choice that is best on the other.

    costs: a row a repetition, as a seed, in an order that means nothing; a column a choice. No NaN.

    Returns: a value a row, with the same index.

    Raises:
        ValueError: fewer than four rows, no column, or a NaN.

    >>> import pandas as pd
    >>> best_in_hindsight(pd.DataFrame({"early": [10, 11, 30, 12], "late": [20, 21, 19, 22]})).tolist()
    [10, 21, 30, 22]
    """
    if len(costs) < 4 or not len(costs.columns) or bool(costs.isna().any(axis=None)):
        raise ValueError(
            f"costs: got {len(costs)} rows and {len(costs.columns)} columns, {int(costs.isna().sum().sum())} values NaN"
            "; allowed are four rows or more, a column or more, and no NaN"
        )
    paid = [costs.iloc[half::2][costs.iloc[1 - half :: 2].mean().idxmin()] for half in (0, 1)]
    found = costs.iloc[:, 0].copy()
    for half, some in enumerate(paid):
        found.iloc[half::2] = some.to_numpy()
    return found.rename("best in hindsight")


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
