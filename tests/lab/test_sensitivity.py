"""fuse_lib.lab.sensitivity: partial rank correlations against residuals, main effects against known shares."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fuse_lib.lab import fired_at_half, main_effect, partial_rank_correlations


def drawn(n=200, k=3, seed=0):
    return pd.DataFrame(np.random.default_rng(seed).random((n, k)), columns=list("abc")[:k])


def test_it_is_what_the_inverse_of_the_correlations_gives():
    """The textbooks' other form: P the inverse of the matrix of all rank correlations, r = −P_iy / √(P_ii P_yy)."""
    x = drawn()
    y = np.exp(3 * x.a) - 2 * x.b + np.random.default_rng(1).normal(0, 1, len(x))
    found = partial_rank_correlations(x, y, draws=10)
    P = np.linalg.inv(stats.spearmanr(x.assign(y=y)).statistic)
    for i, name in enumerate(x):
        assert found[name].mean == pytest.approx(-P[i, 3] / np.sqrt(P[i, i] * P[3, 3]), abs=1e-12)


def test_a_correlated_factor_takes_no_part_of_anothers_effect():
    """b follows a, and the response follows a alone: b's own rank correlation is high, its partial one is not."""
    rng = np.random.default_rng(2)
    a = rng.random(400)
    x = pd.DataFrame({"a": a, "b": a + rng.normal(0, 0.2, 400)})
    y = pd.Series(a + rng.normal(0, 0.1, 400))
    found = partial_rank_correlations(x, y)
    assert stats.spearmanr(x.b, y).statistic > 0.7
    assert abs(found["b"].mean) < 0.15
    assert found["a"].mean > 0.8
    assert found["b"].low < 0 < found["b"].high


def test_only_ranks_count_and_the_intervals_repeat():
    x = drawn()
    y = x.a - x.b + 0.1 * x.c
    assert partial_rank_correlations(x, y, 50) == partial_rank_correlations(np.exp(9 * x), y**3, 50)


def test_nine_in_ten_intervals_of_an_idle_factor_hold_zero():
    held = 0
    for seed in range(60):
        x = drawn(80, 2, seed)
        found = partial_rank_correlations(x, x.a + np.random.default_rng(1000 + seed).normal(0, 1, 80), draws=200)
        held += found["b"].low < 0 < found["b"].high
    assert 50 <= held <= 60


def test_a_factor_that_never_changes_has_no_correlation():
    x = drawn(50, 2).assign(b=1.0)
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        found = partial_rank_correlations(x, x.a, draws=5)
    assert np.isnan(found["b"].mean)


@pytest.mark.parametrize("shape", [lambda u: u, lambda u: -3 * u, lambda u: u**2])
def test_the_main_effect_sees_both_directions_and_a_best_value_in_the_middle(shape):
    x = drawn(500).sub(0.5)
    assert main_effect(x.a, shape(x.a)) > 0.8
    assert abs(main_effect(x.b, shape(x.a))) < 0.05


def test_the_main_effect_is_a_share():
    """y = a + b of equal variance: half each."""
    x = drawn(4000)
    assert main_effect(x.a, x.a + x.b, bins=10) == pytest.approx(0.5, abs=0.03)
    assert np.isnan(main_effect(x.a, pd.Series(np.ones(4000))))


def test_what_only_two_factors_do_together_is_in_neither():
    x = drawn(4000).sub(0.5)
    assert abs(main_effect(x.a, x.a * x.b)) < 0.02
    assert abs(partial_rank_correlations(x, x.a * x.b, 5)["a"].mean) < 0.06


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y[:-1]), "response: got 49 values"),
        (lambda x, y: (x[:5], y[:5]), "at least 6 rows"),
        (lambda x, y: (x, y.where(y.index > 0)), "NaN or infinite"),
        (lambda x, y: (x.replace({"a": {x.a[0]: np.inf}}), y), "NaN or infinite"),
    ],
)
def test_what_cannot_be_ranked_is_an_error(change, message):
    x = drawn(50)
    with pytest.raises(ValueError, match=message):
        partial_rank_correlations(*change(x, x.a))


def test_the_errors_name_their_argument():
    x = drawn(50)
    with pytest.raises(ValueError, match=r"level: got 95"):
        partial_rank_correlations(x, x.a, level=95)
    for bins in (1, 26):
        with pytest.raises(ValueError, match=f"bins: got {bins}"):
            main_effect(x.a, x.b, bins)


@pytest.mark.parametrize("middle", [-2.0, 0.3])
@pytest.mark.parametrize("width", [0.05, 0.4])
def test_the_middle_of_a_logistic_curve_is_found(middle, width):
    rng = np.random.default_rng(3)
    x = rng.uniform(-4, 2, 2000)
    fired = rng.random(2000) < 1 / (1 + np.exp(-(x - middle) / width))
    assert fired_at_half(pd.Series(10**x), pd.Series(fired)) == pytest.approx(middle, abs=0.1)


@pytest.mark.parametrize("fired", [True, False])
def test_where_nothing_or_everything_switches_there_is_no_middle(fired):
    assert np.isnan(fired_at_half(pd.Series([1.0, 2.0, 3.0]), pd.Series([fired] * 3)))
