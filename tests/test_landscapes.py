"""Functions of known curvature: automatic differentiation finds the spectrum that their formulas say."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_lib import problems

MADE = {
    "bent valley": problems.bent_valley(condition=300.0, dim=6),
    "straight": problems.bent_valley(condition=10.0, dim=3, bend=0.0),
    "saddle": problems.saddle(negative=3, positive=4, condition=20.0),
    "plateau": problems.plateau(condition=30.0, dim=5),
    "ripples": problems.ripples(condition=50.0, dim=5),
    "linear net": problems.linear_net(width=4, condition=20.0),
    "tanh net": problems.tanh_net()[0],
}
each = pytest.mark.parametrize("f", MADE.values(), ids=MADE.keys())


def gradient(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x)[0]


def found(f, x):
    """Eigenvalues of autograd's own Hessian, by another way than `Landscape.hessian`."""
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(f.function, x))


@each
def test_autograds_hessian_at_each_documented_point_has_the_documented_spectrum(f):
    assert "minimum" in f.points
    for name in f.points:
        x = f.at(name)
        expected = f.spectrum(x)
        assert expected.shape == (f.dim,)
        assert (expected.diff() >= 0).all()
        scale = float(expected.abs().max())
        assert torch.allclose(found(f, x), expected, rtol=1e-8, atol=1e-9 * scale), name
        torch.testing.assert_close(torch.linalg.eigvalsh(f.hessian(x)), found(f, x), rtol=1e-8, atol=1e-9 * scale)


@pytest.mark.parametrize("name", ["saddle", "plateau", "ripples", "tanh net"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_where_the_formula_is_said_to_hold_everywhere_it_does(name, seed):
    f = MADE[name]
    x = f.sample(1, seed)[0]
    assert torch.allclose(found(f, x), f.spectrum(x), rtol=1e-7, atol=1e-8 * (1 + float(f.spectrum(x).abs().max())))


@each
def test_minima_have_the_least_value_no_gradient_and_no_negative_curvature(f):
    for minimum in f.minima:
        x = torch.tensor(minimum, dtype=torch.float64)
        assert float(f(x)) == pytest.approx(f.least, abs=1e-12)
        assert gradient(f, x).norm() <= 1e-9 * (1 + gradient(f, f.x0()).norm())
        assert found(f, x)[0] >= -1e-9
    assert f(f.x0()) > f.least


@given(place=st.floats(-2.0, 2.0))
@settings(max_examples=20, deadline=None)
def test_all_along_the_valley_the_spectrum_is_known_and_its_determinant_the_same(place):
    f = MADE["bent valley"]
    w = torch.zeros(6, dtype=torch.float64)
    w[0], w[-1] = place, 0.3 * place**2
    x = f.from_axes(w)
    assert torch.allclose(found(f, x), f.spectrum(x), rtol=1e-8, atol=1e-8)
    assert float(f.spectrum(x).log().sum()) == pytest.approx(float(f.spectrum(f.at("minimum")).log().sum()), rel=1e-9)
    condition = float(f.spectrum(x)[-1] / f.spectrum(x)[0])
    assert condition >= 300.0 * (1 - 1e-9)
    if abs(place) > 0.5:
        assert condition > 300.0 * 1.1


def test_the_saddle_has_the_numbers_of_eigenvalues_asked_for_and_no_gradient():
    f = MADE["saddle"]
    values = found(f, f.at("saddle"))
    assert int((values < 0).sum()) == 3
    assert int((values > 0).sum()) == 4
    assert gradient(f, f.at("saddle")).norm() == 0
    assert len(f.minima) == 2**3
    assert float(f(f.at("saddle"))) == 0.0 > f.least


def test_the_plateau_is_flat_far_out_and_bends_the_wrong_way_there():
    f = MADE["plateau"]
    near, far = 0.1 * f.x0() / f.x0().norm(), 10 * f.x0()
    assert gradient(f, far).norm() < 1e-3 * gradient(f, near).norm()
    assert found(f, far)[0] < 0 < found(f, near)[0]
    assert f(100 * f.sample(50, seed=0)).max() < 1.0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_ripples_stay_within_their_bound_and_reach_beyond_the_bowls_curvature(seed):
    f = problems.ripples(condition=50.0, dim=5, strength=3.0)
    values = found(f, f.sample(1, seed)[0])
    assert values[0] >= 1.0 - 150.0 - 1e-6
    assert values[-1] <= 50.0 + 150.0 + 1e-6
    assert found(f, f.at("minimum"))[0] == pytest.approx(151.0)


def test_the_ripples_hide_the_curvature_and_not_the_slope():
    f, bowl = (problems.ripples(condition=50.0, dim=5, strength=s) for s in (3.0, 0.0))
    x = f.sample(200, seed=1)
    assert sum(bool(found(f, point)[0] < 0) for point in x) > 150
    difference = torch.stack([gradient(f, p) - gradient(bowl, p) for p in x]).norm(dim=1).mean()
    assert difference < 0.2 * torch.stack([gradient(bowl, p) for p in x]).norm(dim=1).mean()


def test_the_tanh_nets_minimum_is_strict_and_fits_no_row():
    f, net = problems.tanh_net(residual=0.1, seed=1)
    assert float(f.spectrum(f.at("minimum"))[0]) > 0
    residuals = net.outputs(net.teacher, net.inputs) - net.targets
    assert float(residuals.square().mean().sqrt()) == pytest.approx(0.1)
    assert (residuals != 0).all()
    step = 1e-3 * torch.randn(200, f.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (f(f.at("minimum") + step) > f.least).all()


def test_minibatch_losses_of_the_tanh_net_average_to_the_whole():
    f, net = problems.tanh_net(rows=60, residual=0.01)
    x = f.sample(3, seed=0)
    rows = torch.randperm(60).view(6, 10)
    parts = torch.stack([net.loss(x, r.expand(3, 10)) for r in rows])
    torch.testing.assert_close(parts.mean(0), f(x))
    torch.testing.assert_close(net.loss(x[0], rows[0]), parts[0, 0])


def test_a_batch_is_the_same_as_one_by_one():
    for f in MADE.values():
        x = f.sample(6, seed=1).reshape(2, 3, f.dim)
        torch.testing.assert_close(f(x), torch.stack([torch.stack([f(p) for p in row]) for row in x]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: problems.bent_valley(dim=1), "dim: got 1"),
        (lambda: problems.bent_valley(condition=0.5), "condition: got 0.5"),
        (lambda: problems.bent_valley(bend=math.nan), "bend: got nan"),
        (lambda: problems.saddle(negative=0), "negative: got 0; allowed is a whole number from 1 to 8"),
        (lambda: problems.saddle(positive=1.5), "positive: got 1.5"),
        (lambda: problems.plateau(distance=-1.0), "distance: got -1.0"),
        (lambda: problems.ripples(wavelength=0.0), "wavelength: got 0.0"),
        (lambda: problems.ripples(strength=math.inf), "strength: got inf"),
        (lambda: problems.linear_net(width=12), "width: got 12; allowed is a whole number from 1 to 9"),
        (lambda: problems.tanh_net(hidden=40), "hidden: got 40; allowed is a whole number from 1 to 33"),
        (lambda: problems.tanh_net(rows=20), "rows: got 20"),
        (lambda: problems.tanh_net(seed=3), "residual: got 0.1, with which the teacher of seed 3 is a saddle"),
        (lambda: problems.saddle().at("top"), "name: got 'top'; allowed is one of 'saddle', 'minimum'"),
        (lambda: problems.linear_net().spectrum(problems.linear_net().x0()), "no formula is known"),
        (lambda: problems.saddle().hessian(torch.zeros(3)), r"\(\.\.\., 2\)"),
    ],
)
def test_what_is_not_allowed_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
