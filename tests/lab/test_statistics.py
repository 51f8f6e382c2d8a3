"""fuse_lib.lab.statistics: intervals and tests against SciPy's, what is paired, and what is refused."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fuse_lib.lab import best_in_hindsight, geometric_mean, interval, paired, sign_test, variance_ratio, variance_shares


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_the_interval_is_students(n, level):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    found = interval(values, level)
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    assert found == pytest.approx((values.mean(), low, high, n), rel=1e-12)


def test_small_differences_of_large_values_keep_their_digits():
    found = interval([1e8 + 0.25, 1e8 + 0.5, 1e8 + 0.75])
    assert found.high - found.mean == pytest.approx(4.302653 * 0.25 / math.sqrt(3), rel=1e-6)


def test_nan_is_left_out_and_counted():
    assert interval([1.0, math.nan, 3.0]) == interval([1.0, 3.0])
    assert interval([1.0, math.nan, 3.0]).n == 2


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf, 2.0]])
def test_what_has_no_interval_is_an_error(values):
    with pytest.raises(ValueError, match=r"values: got .*two or more finite"):
        interval(values)


@pytest.mark.parametrize("level", [0, 1, 95, -0.1])
def test_a_level_is_between_0_and_1(level):
    with pytest.raises(ValueError, match="level: got"):
        interval([1.0, 2.0], level)


def table():
    """Two data sets, two optimizers, three seeds; the rows in no order."""
    rows = [(d, o, s, 10 * s + (d == "b") + (o == "x") * (1 + s * s)) for d in "ab" for o in "xy" for s in range(3)]
    runs = pd.DataFrame(rows, columns=["dataset", "optimizer", "seed", "loss"])
    return runs.sample(frac=1.0, random_state=0)


def test_pairs_are_made_by_seed_whatever_the_order_of_the_rows():
    runs = table()
    one = runs[runs.dataset == "a"]
    assert paired(one, "loss", "seed", "optimizer", "x", "y") == interval([1, 2, 5])
    assert paired(one, "loss", "seed", "optimizer", "y", "x") == interval([-1, -2, -5])
    assert paired(runs, "loss", ["dataset", "seed"], "optimizer", "x", "y") == interval([1, 2, 5, 1, 2, 5])
    assert paired(one, "loss", "seed", "optimizer", "x", "y", 0.5) == interval([1, 2, 5], 0.5)


def test_a_pair_without_a_partner_or_with_nan_does_not_count():
    one = table().query("dataset == 'a'")
    lone = one[(one.optimizer != "y") | (one.seed != 1)]
    assert paired(lone, "loss", "seed", "optimizer", "x", "y") == interval([1, 5])
    nan = one.assign(loss=one.loss.where(one.seed != 2))
    assert paired(nan, "loss", "seed", "optimizer", "x", "y") == interval([1, 2])


def test_a_name_that_is_not_there_or_a_pair_that_is_there_twice_is_an_error():
    runs = table()
    with pytest.raises(ValueError, match="baseline: got 'z'; allowed in the column 'optimizer' is one of"):
        paired(runs, "loss", ["dataset", "seed"], "optimizer", "x", "z")
    with pytest.raises(ValueError, match=r"by: got 'seed'; .* there twice"):
        paired(runs, "loss", "seed", "optimizer", "x", "y")
    with pytest.raises(KeyError):
        paired(runs, "gap", ["dataset", "seed"], "optimizer", "x", "y")


@pytest.mark.parametrize(("more", "fewer"), [(0, 0), (1, 0), (5, 5), (9, 1), (1, 9), (40, 22)])
def test_the_sign_test_is_the_binomial_one(more, fewer):
    expected = stats.binomtest(more, more + fewer).pvalue if more + fewer else 1.0
    assert sign_test(more, fewer) == pytest.approx(expected, rel=1e-12)


def test_counts_are_not_negative():
    with pytest.raises(ValueError, match="fewer: got -1"):
        sign_test(3, -1)


def test_a_ratio_of_variances_has_fishers_interval():
    """Drawn with the true ratio 4, about 95 % of the intervals hold it, whatever the samples' means."""
    random, held = np.random.default_rng(0), 0
    for _ in range(1000):
        one = [random.normal(shift, 2.0, 5) for shift in (0.0, 30.0)]
        held += (found := variance_ratio(one, [random.normal(-7.0, 1.0, 6)])).low <= 4.0 <= found.high
        assert found.degrees == (8, 5)
    assert 925 <= held <= 975


def test_one_sample_each_gives_scipys_quantiles():
    a, b = np.array([0.3, 1.9, 2.2, 5.0, -1.0]), np.array([0.1, 0.4, 0.2, 0.9])
    ratio = a.var(ddof=1) / b.var(ddof=1)
    found = variance_ratio([a], [b], 0.9)
    assert found[:3] == pytest.approx((ratio, ratio / stats.f.ppf(0.95, 4, 3), ratio / stats.f.ppf(0.05, 4, 3)))
    swapped = variance_ratio([b], [a], 0.9)
    assert swapped[:3] == pytest.approx((1 / ratio, 1 / found.high, 1 / found.low))


@pytest.mark.parametrize("bad", [[[1.0]], [[1.0, math.nan]], [[1.0, 2.0], [3.0]]])
def test_samples_that_have_no_variance_are_an_error(bad):
    with pytest.raises(ValueError, match=r"other: got a sample .*two or more finite"):
        variance_ratio([[1.0, 2.0]], bad)
    with pytest.raises(ValueError, match=r"one: got .*that vary"):
        variance_ratio([[2.0, 2.0]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="level: got"):
        variance_ratio([[1.0, 2.0]], [[1.0, 2.0]], 1.0)


def cells(effect, noise=0.0, repetitions=6):
    """A table of 4 × 3 cells with y = effect(i, j) + noise."""
    random = np.random.default_rng(0)
    rows = [
        (i, j, k, effect(i, j) + noise * random.normal())
        for i in range(4)
        for j in range(3)
        for k in range(repetitions)
    ]
    return pd.DataFrame(rows, columns=["a", "b", "seed", "y"])


@pytest.mark.parametrize(
    ("effect", "name"), [(lambda i, j: i, "a"), (lambda i, j: j * j, "b"), (lambda i, j: (i - 1.5) * (j - 1), "both")]
)
def test_the_share_of_what_alone_has_an_effect_is_all(effect, name):
    found = variance_shares(cells(effect), "y", ("a", "b"))
    assert {key: round(share.mean, 9) for key, share in found.items()} == {"a": 0, "b": 0, "both": 0, "rest": 0} | {
        name: 1
    }


def test_shares_are_those_of_the_sums_of_squares_and_add_up():
    table = cells(lambda i, j: i + 0.5 * j, noise=1.0)
    found = variance_shares(table, "y", ("a", "b"))
    assert sum(share.mean for share in found.values()) == pytest.approx(1.0)
    y = table.y - table.y.mean()
    assert found["a"].mean == pytest.approx((y.groupby(table.a).transform("mean") ** 2).sum() / (y**2).sum())
    within = y - y.groupby([table.a, table.b]).transform("mean")
    assert found["rest"].mean == pytest.approx((within**2).sum() / (y**2).sum())
    assert found["a"].low < found["a"].mean < found["a"].high
    shuffled = table.sample(frac=1.0, random_state=1)
    assert variance_shares(shuffled, "y", ("a", "b")) == found


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (lambda t: t.iloc[1:], "table: got 71 rows"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "table: got 73 rows"),
        (lambda t: t[t.seed == 0], "two repetitions"),
        (lambda t: t.assign(y=math.inf), "value: .*not finite"),
        (lambda t: t.assign(y=1.0), "alike"),
    ],
)
def test_shares_need_a_balanced_table(broken, match):
    with pytest.raises(ValueError, match=match):
        variance_shares(broken(cells(lambda i, j: i)), "y", ("a", "b"))


def test_a_geometric_mean_is_that_of_scipy_and_its_interval_that_of_the_logarithms():
    ratios = np.random.default_rng(0).lognormal(0.3, 0.5, 12)
    found = geometric_mean([*ratios, math.nan], 0.9)
    logs = interval(np.log(ratios), 0.9)
    assert found.mean == pytest.approx(stats.gmean(ratios))
    assert (math.log(found.low), math.log(found.high), found.n) == pytest.approx((logs.low, logs.high, 12))


@pytest.mark.parametrize("ratio", [0.0, -2.0])
def test_a_ratio_is_positive(ratio):
    with pytest.raises(ValueError, match=f"ratios: got {ratio}; allowed are numbers > 0"):
        geometric_mean([1.0, ratio, 2.0])


def test_the_best_in_hindsight_is_free_of_the_winners_curse():
    """Ten choices that are all alike: the lowest mean is well below what they cost, the cross-fitted one is not."""
    draw = np.random.default_rng(0)
    luck, fair = [], []
    for _ in range(200):
        costs = pd.DataFrame(draw.normal(100.0, 10.0, (20, 10)))
        luck.append(costs.mean().min())
        fair.append(best_in_hindsight(costs).mean())
    assert interval(luck).high < 98.0
    assert interval(fair).low < 100.0 < interval(fair).high


def test_the_best_in_hindsight_is_paid_on_the_rows_that_did_not_choose_it():
    costs = pd.DataFrame({"a": [1, 9, 1, 9, 1], "b": [5, 5, 5, 5, 5]}, index=list("uvwxy"))
    found = best_in_hindsight(costs)  # rows u, w, y say a; v, x say b
    assert found.to_dict() == {"u": 5, "v": 9, "w": 5, "x": 9, "y": 5}
    assert found.index.equals(costs.index)


@pytest.mark.parametrize("costs", [{"a": [1.0, 2.0, 3.0]}, {}, {"a": [1.0, 2.0, math.nan, 3.0]}])
def test_the_best_in_hindsight_of_too_little_is_an_error(costs):
    with pytest.raises(ValueError, match=r"costs: got \d rows and \d columns"):
        best_in_hindsight(pd.DataFrame(costs))
