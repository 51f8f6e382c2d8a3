"""scaling="adaptive": the scale of H₀ is learned from the line searches."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
import torch.nn.functional as F

from fuse_lib import LBFGS, Fuse, data
from fuse_lib.optim.gram import Gram

pytestmark = pytest.mark.usefixtures("one_thread")
F64 = torch.float64


def evaluations(m: int, scaling: str, dataset: str = "digits", seed: int = 0, cap: int = 400) -> int:
    """Closure calls until softmax regression with a penalty is within 1e-4 of its minimum."""
    sample = data.load(dataset)
    x, y = sample.x_train.flatten(1), sample.y_train
    minimum = {"digits": 0.0873331, "fashion-mnist-sample": 0.0915574}[dataset]
    generator = torch.Generator().manual_seed(seed)
    w = torch.nn.Parameter(0.1 * torch.randn(10, x.shape[1], generator=generator))
    opt = LBFGS([w], history_size=m, full_batch=True, scaling=scaling)
    losses = []

    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(x @ w.T, y) + 0.5e-4 * w.square().sum()
        loss.backward()
        losses.append(loss.item())
        return loss

    while len(losses) < cap and min(losses, default=math.inf) > minimum * (1 + 1e-4):
        opt.step(closure)
    return len(losses)


@pytest.mark.parametrize(("m", "share"), [(10, 1.05), (30, 0.9), (100, 0.85)])
def test_it_needs_fewer_evaluations_the_longer_the_memory(m, share):
    counts = {s: [evaluations(m, s, seed=seed) for seed in range(3)] for s in ("newest", "adaptive")}
    medians = {scaling: statistics.median(some) for scaling, some in counts.items()}
    assert medians["adaptive"] <= share * medians["newest"], counts


def test_on_ten_times_as_many_parameters_a_long_memory_saves_half():
    assert evaluations(100, "adaptive", "fashion-mnist-sample") <= 0.6 * evaluations(
        100, "newest", "fashion-mnist-sample"
    )


def steps_on_a_quadratic(opt_of, steps: int = 25):
    x = torch.nn.Parameter(torch.linspace(1, 2, 30, dtype=F64))
    a = torch.logspace(-2, 2, 30, dtype=F64)
    opt = opt_of([x])

    def closure():
        opt.zero_grad()
        loss = 0.5 * (a * x.square()).sum()
        loss.backward()
        return loss

    for _ in range(steps):
        opt.step(closure)
        yield opt


@pytest.mark.parametrize("full_batch", [False, True])
def test_the_scale_stays_between_the_bounds_of_the_newest_pair(full_batch):
    seen = set()
    for opt in steps_on_a_quadratic(lambda p: LBFGS(p, history_size=5, full_batch=full_batch, scaling="adaptive")):
        history = opt._second.history
        if not history:
            continue
        row = history.slots[-1]
        s, y = history.S[row], history.Y[row]
        low, high = float(s.dot(y) / y.dot(y)), float(s.dot(s) / s.dot(y))
        assert low * (1 - 1e-12) <= history.gram.gamma <= high * (1 + 1e-12)
        seen.add((history.gram.gamma > 1.01 * low, history.gram.gamma < 0.99 * high))
    assert (True, True) in seen, "it is neither of the bounds all the time"


def test_newest_is_the_textbooks_scale():
    for opt in steps_on_a_quadratic(lambda p: LBFGS(p, history_size=5, full_batch=True)):
        history = opt._second.history
        if history:
            row = history.slots[-1]
            s, y = history.S[row], history.Y[row]
            assert history.gram.gamma == pytest.approx(float(s.dot(y) / y.dot(y)), rel=1e-12)


@pytest.mark.parametrize(
    ("minimum", "expected"), [(1.0, 1.0), (4.0, 2.0), (0.25, 0.5), (1e9, math.sqrt(10)), (1e-9, math.sqrt(0.1))]
)
def test_half_of_what_the_search_saw_goes_into_the_scale(minimum, expected):
    assert Gram(3).adapted(minimum, ss=1e3, sy=1.0, yy=1e3) == pytest.approx(expected)


def test_the_scale_is_kept_within_the_newest_pairs_bounds():
    assert Gram(3).adapted(4.0, ss=1.5, sy=1.0, yy=1.0) == 1.5
    assert Gram(3).adapted(0.25, ss=1.5, sy=1.0, yy=1.0) == 1.0


@pytest.mark.parametrize("scaling", ["adaptive", "newest"])
def test_a_search_tells_where_the_minimum_along_the_step_was(scaling):
    """On a parabola the slopes say it exactly: f = ½ a x², along p from x, t* = −x/p."""
    x = torch.nn.Parameter(torch.tensor([2.0], dtype=F64))
    opt = LBFGS([x], full_batch=True, scaling=scaling)

    def closure():
        opt.zero_grad()
        loss = 0.5 * x.square().sum()
        loss.backward()
        return loss

    opt.step(closure)  # −g = −2 scaled to the length 1: t = 0.5, and the minimum at t* = 1
    assert opt._second.history.staged.minimum == pytest.approx(1.0)


@pytest.mark.parametrize("cls", [LBFGS, Fuse])
def test_another_scaling_is_an_error(cls):
    with pytest.raises(ValueError, match=r"^scaling: got 'bb1'; allowed is 'newest', 'adaptive'$"):
        cls([torch.nn.Parameter(torch.zeros(2))], scaling="bb1")


def test_a_state_from_before_there_was_a_choice_loads():
    *_, opt = steps_on_a_quadratic(lambda p: LBFGS(p, history_size=5, full_batch=True), 8)
    state = opt.state_dict()
    for entry in state["state"].values():
        entry.pop("fuse_scale_and_minimum", None)
    x = torch.nn.Parameter(opt.param_groups[0]["params"][0].detach().clone())
    other = LBFGS([x], history_size=5, full_batch=True)
    other.load_state_dict(state)
    assert other._second.history.gram.gamma == opt._second.history.gram.gamma
