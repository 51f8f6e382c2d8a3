"""Test functions: minima are what is said of them, a batch is many single points, noise is of the stated size."""

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fuse_lib import LBFGS, FusePV, problems
from fuse_lib.problems import NoisyGradient

NAMES = problems.NAMES
each = pytest.mark.parametrize("name", NAMES)
FACTORIES = [problems.rosenbrock, problems.rastrigin, problems.ackley, problems.styblinski_tang, problems.valley]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def gradient(f, x):
    x = x.detach().clone().requires_grad_()
    f(x).sum().backward()
    return x.grad


def minima(f):
    return torch.tensor(f.minima, dtype=torch.float64)


@each
def test_it_is_found_by_its_name(name):
    f = problems.get(name)
    assert f.name == name
    assert f.dim == len(f.domain) == len(f.start)
    assert all(len(m) == f.dim for m in f.minima)
    assert re.match(r"https://(doi\.org/10\.|arxiv\.org/abs/)\S+$", f.reference)
    assert f.formula


@each
def test_value_and_zero_gradient_at_each_minimum(name):
    f = problems.get(name)
    at = minima(f)
    assert torch.allclose(f(at), torch.full((len(at),), f.least, dtype=torch.float64), rtol=1e-15, atol=1e-13)
    assert gradient(f, at).abs().max() <= 1e-10 * gradient(f, f.x0()).norm()
    assert f.solved(at).all()
    assert torch.equal(f.nearest(at)[0], torch.arange(len(at)))


@each
def test_nothing_lower_is_found_near_a_minimum_or_anywhere_in_the_domain(name):
    f = problems.get(name)
    step = torch.randn(20_000, 1, f.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for size in (1e-5, 1e-2, 1.0):
        assert f(minima(f) + size * step).min() >= f.least - 1e-12
    values = f(f.sample(100_000, seed=2))
    assert values.min() >= f.least
    assert values.isfinite().all()


@each
def test_the_listed_minima_are_all_global_ones_that_many_descents_find(name):
    """From many starts by L-BFGS: whoever gets to the least value is at a minimum of the list."""
    f = problems.get(name)
    reached = set()
    for start in f.sample(30, seed=3):
        x = torch.nn.Parameter(start.clone())
        opt = LBFGS([x], full_batch=True, inner_steps=200, max_evals=2000)

        def closure(x=x, opt=opt):
            opt.zero_grad()
            loss = f(x)
            loss.backward()
            return loss

        opt.step(closure)
        end = x.detach()
        assert f(end) >= f.least - 1e-12
        if f(end) - f.least <= 1e-10:
            number, distance = f.nearest(end)
            assert distance < 1e-3
            reached.add(int(number))
    if name == "himmelblau":
        assert reached == {0, 1, 2, 3}


@each
def test_the_standard_start_is_in_the_domain_and_solves_nothing(name):
    f = problems.get(name)
    low, high = torch.tensor(f.domain, dtype=torch.float64).T
    for points in (f.x0(), minima(f), f.sample(1000, seed=4)):
        assert ((points >= low) & (points <= high)).all()
    assert not f.solved(f.x0())
    assert f.gap(f.x0()) == pytest.approx(1.0)
    assert torch.equal(f.sample(5, seed=7), f.sample(5, seed=7))
    assert not torch.equal(f.sample(5, seed=7), f.sample(5, seed=8))


@each
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_gradient_against_central_differences(name, seed):
    f = problems.get(name)
    x = f.sample(1, seed)[0]
    h = 1e-5
    differences = torch.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in torch.eye(f.dim, dtype=x.dtype)])
    g = gradient(f, x)
    assert (g - differences).norm() <= 1e-5 * (1.0 + g.norm())


@each
@given(shape=st.lists(st.integers(0, 4), max_size=3), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_batch_is_the_same_as_one_by_one(name, shape, seed):
    f = problems.get(name)
    rows = f.sample(math.prod(shape), seed)
    x = rows.reshape(*shape, f.dim)
    values, grads, solved = f(x), gradient(f, x), f.solved(x)
    assert values.shape == solved.shape == torch.Size(shape)
    for row, value, grad in zip(rows, values.flatten(), grads.reshape(-1, f.dim), strict=True):
        assert torch.allclose(f(row), value, rtol=1e-13, atol=1e-13)
        assert torch.allclose(gradient(f, row), grad, rtol=1e-12, atol=1e-12)


@each
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_float_dtype(name, dtype):
    f = problems.get(name)
    x = f.sample(10, seed=5, dtype=dtype)
    assert f(x).dtype == dtype == f.x0(dtype).dtype
    assert gradient(f, x).dtype == dtype
    assert torch.allclose(f(x).double(), f(x.double()), rtol=0.3, atol=4.0 if dtype.itemsize == 2 else 1e-2)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dim", [2, 3, 7])
def test_other_dimensions(factory, dim):
    f = factory(dim=dim)
    assert f.dim == dim
    assert f.solved(minima(f)).all()
    assert gradient(f, minima(f)).abs().max() < 1e-10


def test_the_values_of_the_literature():
    assert float(problems.get("rosenbrock")(torch.tensor([-1.2, 1.0]).double())) == pytest.approx(24.2)
    assert float(problems.get("beale")(torch.tensor([1.0, 1.0]).double())) == pytest.approx(14.203125)
    assert problems.get("styblinski-tang").least == pytest.approx(-39.16617 * 2, abs=1e-4)
    assert len(problems.get("himmelblau").minima) == 4


def test_rosenbrock_in_ten_dimensions_has_a_second_minimum():
    f = problems.get("rosenbrock-10")
    x = torch.nn.Parameter(torch.tensor([-1.0] + [1.0] * 9, dtype=torch.float64))
    opt = LBFGS([x], full_batch=True, inner_steps=500, max_evals=5000)

    def closure():
        opt.zero_grad()
        loss = f(x)
        loss.backward()
        return loss

    opt.step(closure)
    assert float(f(x.detach())) == pytest.approx(3.986, abs=0.01)
    assert not f.solved(x.detach())


@given(condition=st.floats(1.0, 1e6), dim=st.integers(2, 6))
@settings(max_examples=30, deadline=None)
def test_the_valley_has_the_condition_number_asked_for(condition, dim):
    f = problems.valley(condition, dim)
    hessian = torch.func.hessian(f)(torch.zeros(dim, dtype=torch.float64))
    values = torch.linalg.eigvalsh(hessian)
    assert float(values[-1] / values[0]) == pytest.approx(condition, rel=1e-6)
    if condition > 2:
        assert (hessian - torch.diag(hessian.diagonal())).abs().max() > 1e-3  # it lies along no axis


def test_solved_wants_a_low_value_at_the_right_place():
    f = problems.get("rosenbrock")
    near, far = torch.tensor([[1.001, 1.002], [0.9, 0.81]], dtype=torch.float64)
    assert f.solved(near)
    assert not f.solved(near, tolerance=1e-9)
    assert not f.solved(far)
    assert not f.solved(far, f=0.0)  # low, it is said, but not where a minimum is
    assert not f.solved(near, f=math.nan)
    assert torch.equal(f.solved(torch.stack([near, far]), f=torch.zeros(2)), torch.tensor([True, False]))
    assert not f.solved(torch.full((2,), math.nan))


def test_the_grid_is_laid_out_as_contour_wants_it():
    f = problems.get("himmelblau")
    points = f.grid(11)
    assert points.shape == (11, 11, 2)
    assert points[0, -1].tolist() == [5.0, -5.0]
    with pytest.raises(ValueError, match="10 variables"):
        problems.get("rosenbrock-10").grid(5)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: problems.get("zebra"), ValueError, "'rosenbrock', 'rosenbrock-10'"),
        (lambda: problems.rosenbrock(dim=1), ValueError, "dim: got 1"),
        (lambda: problems.rastrigin(dim=2.0), ValueError, "dim: got 2.0"),
        (lambda: problems.valley(condition=0.5), ValueError, "condition: got 0.5"),
        (lambda: problems.valley(condition=math.inf), ValueError, "condition: got inf"),
        (lambda: problems.get("beale")(torch.zeros(3)), ValueError, r"\(\.\.\., 2\)"),
        (lambda: problems.get("beale")(torch.tensor(1.0)), ValueError, "shape"),
        (lambda: problems.get("beale")(torch.zeros(2, dtype=torch.int64)), TypeError, "int64"),
        (lambda: problems.get("beale")([1.0, 2.0]), TypeError, "float dtype"),
        (lambda: NoisyGradient(problems.get("beale"), -1.0), ValueError, "sigma: got -1.0"),
        (lambda: NoisyGradient(problems.get("beale"), 1.0, loss="soft"), ValueError, "loss: got 'soft'"),
    ],
)
def test_what_is_not_allowed_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


# ---- noise
@pytest.mark.parametrize("loss", ["exact", "tilted"])
@each
def test_noise_has_the_stated_size_and_no_bias(name, loss):
    f = problems.get(name)
    noisy = NoisyGradient(f, sigma=0.1, seed=0, loss=loss)
    x = f.sample(1, seed=6).expand(20_000, f.dim)
    noise = gradient(noisy, x) - gradient(f, x)
    size = gradient(f, f.x0()).norm()
    assert float(noise.square().sum(-1).mean()) == pytest.approx(float((0.1 * size) ** 2), rel=0.05)
    assert (noise.mean(0).abs() <= 5 * noise.std(0) / math.sqrt(len(noise))).all()


@each
def test_the_loss_is_exact_or_tilted_as_stated(name):
    f = problems.get(name)
    x = f.sample(4, seed=7)
    assert torch.equal(NoisyGradient(f, 1.0, seed=0)(x), f(x))
    tilted = NoisyGradient(f, 1.0, seed=0, loss="tilted", hold=True)
    xi = gradient(tilted, x) - gradient(f, x)
    assert torch.allclose(tilted(x) - f(x), (xi * x).sum(-1), rtol=1e-9, atol=1e-9)


def test_noise_is_drawn_anew_at_each_evaluation_or_held_until_redraw():
    f = problems.get("beale")
    fresh, held = NoisyGradient(f, 1.0, seed=0), NoisyGradient(f, 1.0, seed=0, hold=True)
    x = f.x0()
    assert not torch.equal(gradient(fresh, x), gradient(fresh, x))
    one = gradient(held, x)
    assert torch.equal(one, gradient(held, x))
    held.redraw()
    assert not torch.equal(one, gradient(held, x))
    assert torch.equal(one, gradient(NoisyGradient(f, 1.0, seed=0), x))  # the seed says what is drawn
    none = NoisyGradient(f, 0.0)
    assert none.deterministic
    assert torch.equal(gradient(none, x), gradient(f, x))


def test_torch_optimizers_see_the_noise_and_fuse_the_broken_promise():
    f = problems.get("rosenbrock")

    def closure_of(noisy, x, opt):
        def closure():
            opt.zero_grad()
            loss = noisy(x)
            loss.backward()
            return loss

        return closure

    x = torch.nn.Parameter(f.x0())
    opt = torch.optim.SGD([x], lr=1e-3)
    loss = opt.step(closure_of(NoisyGradient(f, 0.1, seed=0), x, opt))
    assert float(loss.detach()) == pytest.approx(24.2)
    assert not torch.allclose(x.detach(), f.x0() - 1e-3 * gradient(f, f.x0()))

    x = torch.nn.Parameter(f.x0())
    opt = FusePV([x], lr=0.1, switchover="step:3", full_batch=True)
    closure = closure_of(NoisyGradient(f, 0.5, seed=0), x, opt)
    for _ in range(3):
        opt.step(closure)
    with pytest.raises(RuntimeError, match="full_batch"):
        opt.step(closure)


def test_the_package_needs_torch_and_nothing_else():
    folder = Path(problems.__file__).parent
    for file in folder.glob("*.py"):
        for module in re.findall(r"^(?:from|import) ([\w.]+)", file.read_text(encoding="utf-8"), re.M):
            allowed = module.split(".")[0] in ("torch", "math", "collections", "dataclasses", "__future__")
            assert allowed or module.startswith("fuse_lib.problems"), f"{file.name} imports {module}"
