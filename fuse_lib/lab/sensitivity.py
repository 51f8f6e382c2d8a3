"""How much a response depends on each of several factors that were varied together.

Two measures, each blind to something:

- the partial rank correlation: up or down, whatever the shape of the rise, with the other factors' part taken out. A
  response that falls and rises again (a best value in the middle) has one near 0.
- the main effect: the share of the response's variance that the factor's bins explain, whatever the direction. What
  two factors do only together is in neither's.

Ranks: M. D. McKay, R. J. Beckman, W. J. Conover, Technometrics 21, 1979, doi 10.2307/1268522 (the designs); R. L. Iman,
W. J. Conover, Communications in Statistics 11, 1982, doi 10.1080/03610918208812265 (correlations of ranks).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from fuse_lib.lab.statistics import Interval


def partial_rank_correlations(
    factors: pd.DataFrame, response: pd.Series, draws: int = 1000, level: float = 0.95
) -> dict[str, Interval]:
    """Each factor's rank correlation with the response, the other factors' (rank-linear) part taken out: −1 … 1.

    r_i is the correlation of two residuals: of factor i's ranks and of the response's, each after its least-squares fit
    by the ranks of the other factors.

    factors: (n, k), one column a factor. response: n values. Ties share their mean rank; NaN is an error.
    draws: of the bootstrap over the n rows (seed 0) that the intervals come from. level: as in `interval`.

    Raises:
        ValueError: lengths that differ, fewer than k + 3 rows, a value that is no number, or a level out of range.

    >>> import pandas as pd
    >>> x = np.random.default_rng(1).random((100, 2))
    >>> found = partial_rank_correlations(pd.DataFrame(x, columns=["a", "b"]), pd.Series(x[:, 0] ** 3))
    >>> round(found["a"].mean, 2), found["b"].low < 0 < found["b"].high
    (1.0, True)
    """
    from fuse_lib.lab.statistics import Interval

    n, k = factors.shape
    table = np.column_stack([factors.to_numpy(float), np.asarray(response, float)]) if len(response) == n else None
    if table is None or n < k + 3:
        raise ValueError(f"response: got {len(response)} values for {n} rows of factors; allowed is one a row, and at "
                         f"least {k + 3} rows")  # fmt: skip
    if not np.isfinite(table).all():
        raise ValueError(
            "response: got a value that is NaN or infinite, here or in factors; allowed are finite numbers"
        )
    if not 0.0 < level < 1.0:
        raise ValueError(f"level: got {level!r}; allowed is a number between 0 and 1")
    rng = np.random.default_rng(0)
    drawn = np.stack([_partial(table[rng.integers(0, n, n)]) for _ in range(draws)])
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {name: Interval(*map(float, row), n) for name, *row in zip(factors, _partial(table), low, high, strict=True)}


def main_effect(factor: pd.Series, response: pd.Series, bins: int = 5) -> float:
    """The share of the response's variance that lies between bins of the factor, without what chance puts there.

    1 − (n − 1)/(n − bins) · SS_within/SS_total, for bins of equal numbers of rows: adjusted as the coefficient of
    determination is, so that a factor of no effect has a value about 0, and may have a negative one.

    factor, response: n values each. bins: at least 2, at most n/2.

    Raises:
        ValueError: lengths that differ, or a number of bins out of range.

    >>> import pandas as pd
    >>> u = pd.Series(np.linspace(-1, 1, 100))
    >>> round(main_effect(u, u**2), 2)
    0.8
    """
    x, y = np.asarray(factor, float), np.asarray(response, float)
    n = len(x)
    if len(y) != n or not 2 <= bins <= n / 2:
        raise ValueError(f"bins: got {bins!r} for {n} and {len(y)} values; allowed is 2 … half of their number, "
                         "which must be the same")  # fmt: skip
    total = ((y - y.mean()) ** 2).sum()
    groups = np.array_split(y[np.argsort(x, kind="stable")], bins)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    return float(1 - (n - 1) / (n - bins) * within / total) if total else math.nan


def fired_at_half(thresholds: pd.Series, fired: pd.Series) -> float:
    """log10 of the threshold at which half of the runs switch: of a logistic curve in log10, fitted by its likelihood.

    P(fired) = 1 / (1 + exp(−(log10 threshold − c)/w)); the c of the most likely pair on a grid (c over the range of the
    thresholds, w of 0.1 to 0.8 decades).

    thresholds: n positive numbers. fired: n booleans. NaN where fewer than one in twenty fired, or all but those.

    >>> import pandas as pd
    >>> t = pd.Series(np.logspace(-3, 1, 81))
    >>> round(fired_at_half(t, t > 0.1), 1)
    -1.0
    """
    x, y = np.log10(np.asarray(thresholds, float)), np.asarray(fired, float)
    if not 0.05 <= y.mean() <= 0.95:
        return math.nan
    middle, width = np.meshgrid(np.linspace(x.min(), x.max(), 200), [0.1, 0.2, 0.4, 0.8], indexing="ij")
    p = 1 / (1 + np.exp((middle[..., None] - x) / width[..., None]))
    likelihood = (y * np.log(p + 1e-12) + (1 - y) * np.log(1 - p + 1e-12)).sum(-1)
    return float(middle.flat[likelihood.argmax()])


def _partial(table: np.ndarray) -> np.ndarray:
    """(n, k + 1), the response last → (k,) partial correlations of the ranks. NaN where a column is constant."""
    from scipy.stats import rankdata

    ranks = rankdata(table, axis=0)
    ranks = ranks - ranks.mean(axis=0)
    found = np.full(table.shape[1] - 1, np.nan)
    for i in range(len(found)):
        others = np.delete(ranks[:, :-1], i, axis=1)
        mine = ranks[:, [i, -1]]
        a, b = (mine - others @ np.linalg.lstsq(others, mine, rcond=None)[0]).T
        if a.any() and b.any():
            found[i] = a @ b / math.sqrt((a @ a) * (b @ b))
    return found
