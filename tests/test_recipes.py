"""fuse_lib.recipes and the benchmarks of notebook 12: costs are counted, each recipe does what its name says."""

import sys
from pathlib import Path

import pytest
import torch

from fuse_lib import recipes
from fuse_lib.recipes import norm_test, stochastic

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(FOLDER))
pd = pytest.importorskip("pandas")
import variance_12  # noqa: E402
import variance_recipes_12  # noqa: E402

sys.path.remove(str(FOLDER))


def three_classes(n=120, d=5, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, d, generator=generator)
    y = (x @ torch.randn(d, 3, generator=generator)).argmax(1)
    return recipes.Softmax(x, y, **options)


def test_adams_runs_side_by_side_are_those_made_one_by_one():
    """Same minibatches, same cosine; the last step's rate differs by nothing."""
    found = variance_12.adam_ends(three_classes(), 16, 3, budgets=(1, 2), rates=(1e-2, 1e-1))
    for end in found:
        f = three_classes(least=-1.0)
        recipes.adam(f, end["lr"], end["passes"], 16, 3)
        assert end["gap"] == pytest.approx(f.curve[-1][1], rel=1e-4)
    assert [(e["passes"], e["lr"]) for e in found] == [(1, 1e-2), (1, 1e-1), (2, 1e-2), (2, 1e-1)]


def test_the_problem_counts_rows_and_refuses_what_is_too_much():
    f = three_classes(passes=1.5)
    f.batch_closure(torch.arange(60))
    f.batch_closure(torch.arange(120))
    assert (f.samples, f.passes_spent) == (180, 1.5)
    with pytest.raises(recipes.Spent):
        f.batch_closure(torch.arange(1))
    assert f.samples == 180
    assert [p for p, _ in f.curve] == [1.5]
    assert f.reached(10.0) == 1.5
    assert f.reached(-1.0) != f.reached(-1.0), "NaN: never"


@pytest.mark.parametrize("recipe", stochastic.RECIPES)
def test_a_recipe_spends_its_passes_and_lowers_the_loss(recipe):
    f = three_classes(least=-1.0)
    start = f.measure()
    metric = torch.rand(18, generator=torch.Generator().manual_seed(1))
    stochastic.run(f, stochastic.RECIPES[recipe], 0.1, 6, 12, 0, metric)
    assert f.curve[-1][1] < 0.9 * start
    assert 6 <= f.passes_spent < 7.5


def test_the_two_loops_with_exact_pairs_are_newtons_step():
    hessian = torch.diag(torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))
    s = torch.eye(3, dtype=torch.float64)
    g = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    found = stochastic.direction(g, [(v, hessian @ v) for v in s])
    torch.testing.assert_close(found, -torch.linalg.solve(hessian, g))


def test_powell_mends_a_pair_and_without_it_a_bad_one_is_left_out():
    s = torch.tensor([1.0, 0.0])
    good = (s, 2 * s)
    assert stochastic.judged(s, -s, [good], damped=False) is None
    mended = stochastic.judged(s, -s, [good], damped=True)
    assert float(mended[0] @ mended[1]) == pytest.approx(0.2 * 2.0)


def test_the_norm_test_s_halves_give_the_batch_s_own_gradient_and_its_variance():
    f = three_classes()
    rows, told = torch.arange(40), []
    norm_test.halves(f, rows, told)
    halves = [p.grad.clone() for p in f.params]
    f.batch_closure(rows)
    assert all(torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(halves, f.params, strict=True))
    norm_test.halves(f, torch.cat([rows[:20], rows[:20]]), again := [])
    assert told[0] > 0
    assert again[0] == pytest.approx(0, abs=1e-10)


def test_directions_compare_each_recipe_with_all_rows(monkeypatch):
    monkeypatch.setattr(variance_recipes_12, "problem", lambda name, **options: three_classes(n=1600, **options))
    monkeypatch.setattr(variance_recipes_12, "batch", lambda name: 8)
    monkeypatch.setattr(variance_recipes_12, "rate", lambda name: 0.01)
    table = pd.DataFrame(variance_recipes_12.directions("usps", 0, draws=2))
    assert set(table.recipe) == {*stochastic.RECIPES, "norm test, grown 8 times", "anchored"}
    quiet = table[(table.recipe == "anchored") & (table.what == "gradient")].error.item()
    assert quiet < 0.1 * table[(table.recipe == "same-batch pairs") & (table.what == "gradient")].error.item()
