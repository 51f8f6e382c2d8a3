"""The second phase's other methods: directions, state, errors, processes. Random closures: test_random_closures.py."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math

import pytest
import torch

from fuse_lib import Fuse, FusePV
from fuse_lib.optim.differences import Differences
from fuse_lib.optim.methods import METHODS, own_options
from fuse_lib.optim.point import Point
from fuse_lib.optim.vectors import Vectors
from tests.optim import ranks
from tests.optim.methods import STOPPED, Counted, Enough
from tests.optim.mgh import PROBLEMS
from tests.optim.tools import closure_for, flat, net, train

F64 = torch.float64
OTHERS = [name for name in METHODS if name != "lbfgs"]
each = pytest.mark.parametrize("method", OTHERS)
pytestmark = pytest.mark.usefixtures("one_thread")
processes = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="this torch has no gloo"
)


def quadratic(values, seed=0):
    """(parameter, closure, Hessian) of ½ xᵀAx with these eigenvalues in a random basis."""
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=F64))
    a = (q * torch.as_tensor(values, dtype=F64)) @ q.T
    x = torch.nn.Parameter(torch.randn(n, generator=generator, dtype=F64))

    def closure():
        x.grad = a @ x.detach()
        return 0.5 * float(x.detach() @ x.grad)

    return x, closure, a


def descend(x, closure, method, steps, **options):
    """Reports of a run of the second phase alone."""
    opt = Fuse([x], switchover="always", full_batch=True, second_order=method, **options)
    reports = []
    for _ in range(steps):
        opt.step(closure)
        reports.append(opt.last_step.as_dict())
    return opt, reports


# ---- Hessian-vector products
@pytest.mark.parametrize(("dtype", "error"), [(F64, 1e-6), (torch.float32, 1e-2)])
def test_differences_are_products_with_the_hessian(dtype, error):
    model, x, y = net(dtype)
    params = list(model.parameters())
    closure = closure_for(torch.optim.SGD(params), model, x, y)
    vectors = Vectors([{"params": params}])
    value = closure()
    point = Point(vectors.position(), value, value, vectors.gradient(start=True))
    hessian = Differences(vectors, point, lambda: (torch.enable_grad()(closure)(), 0.0))
    v = torch.randn(vectors.numel, generator=torch.Generator().manual_seed(0), dtype=dtype)
    with torch.no_grad():
        found = hessian.times(v)
        vectors.restore(point.x)
    grads = torch.autograd.grad((model(x) - y).square().mean(), params, create_graph=True)
    dot = sum((g * piece).sum() for g, piece in zip(grads, vectors.split(v), strict=True))
    exact = vectors.flat(torch.autograd.grad(dot, params))
    assert hessian.calls == 1
    assert (found - exact).norm() <= error * exact.norm()
    assert hessian.times(torch.zeros_like(v)) is None


# ---- conjugate gradients
def test_cg_ends_on_a_quadratic_after_as_many_steps_as_there_are_distinct_eigenvalues():
    x, closure, _ = quadratic([1.0] * 7 + [30.0] * 6 + [100.0] * 7 + [1000.0] * 10)
    _, reports = descend(x, closure, "cg", 8)
    assert reports[5]["grad_norm"] <= 1e-6 * reports[0]["grad_norm"]
    assert reports[2]["grad_norm"] >= 1e-3 * reports[0]["grad_norm"]


def test_cg_beats_steepest_descent_by_the_root_of_the_condition_number():
    """Its search alone, with the memory cleared before each step, is steepest descent."""
    spectrum = torch.logspace(0, 3, 40, dtype=F64)
    x, closure, _ = quadratic(spectrum)
    _, reports = descend(x, closure, "cg", 150)
    y, closure, _ = quadratic(spectrum)
    opt = Fuse([y], switchover="always", full_batch=True, second_order="cg")
    for _ in range(150):
        if opt._second is not None:
            opt._second.method.clear()
        opt.step(closure)
    assert reports[-1]["grad_norm"] <= 1e-5 * opt.last_step.grad_norm


# ---- truncated Newton
def test_newton_cg_converges_superlinearly_and_ends():
    x = torch.nn.Parameter(PROBLEMS[0].x0())

    def closure():
        opt.zero_grad()
        loss = PROBLEMS[0](x)
        loss.backward()
        return loss

    opt, norms = Fuse([x], switchover="always", full_batch=True, second_order="newton-cg"), []
    while not norms or not opt.last_step.stop_reason:
        opt.step(closure)
        norms.append(opt.last_step.grad_norm)
    assert opt.last_step.stop_reason == "converged"
    tail = [n for n in norms if 0.0 < n < 1e-1]
    ratios = [b / a for a, b in itertools.pairwise(tail)]
    assert min(ratios) < 1e-3
    assert len(norms) < 60


def test_newton_cg_leaves_a_saddle_along_negative_curvature():
    x = torch.nn.Parameter(torch.tensor([1.0, 1e-3], dtype=F64))

    def closure():
        opt.zero_grad()
        loss = x[0] ** 2 - x[1] ** 2 + 0.25 * x[1] ** 4
        loss.backward()
        return loss

    opt = Fuse([x], switchover="always", full_batch=True, second_order="newton-cg")
    for _ in range(40):
        opt.step(closure)
    assert float(closure().detach()) == pytest.approx(-1.0, abs=1e-9)


@pytest.mark.parametrize("most", [2, 3, 4, 6, 12, 25])
def test_products_count_as_evaluations_and_leave_some_for_the_search(most):
    x, closure, _ = quadratic(torch.logspace(0, 3, 30, dtype=F64))
    _, reports = descend(x, closure, "newton-cg", 30, max_evals=most)
    assert max(r["evals"] for r in reports) <= most
    assert most < 4 or max(r["evals"] for r in reports) > 2
    assert reports[-1]["loss"] < 1e-1 * reports[0]["loss"]


@pytest.mark.parametrize(("method", "least"), [("cg", 32), ("newton-cg", 33)])
def test_how_many_of_the_35_problems_are_solved_within_1000_evaluations(method, least):
    """L-BFGS solves all of them; these two leave a few of the badly scaled ones."""
    solved = []
    for problem in PROBLEMS:
        goal = problem.minima[0] + problem.tolerance(problem.minima[0])
        f = Counted(problem, 1000, lambda value, norm, goal=goal: value <= goal)
        x = torch.nn.Parameter(problem.x0())
        opt, reason = Fuse([x], switchover="always", full_batch=True, second_order=method), None
        with contextlib.suppress(Enough):
            while reason not in STOPPED:
                opt.step(f.closure(x))
                reason = opt.last_step.stop_reason
        if problem.reached(min(v for v in f.values if math.isfinite(v))) is not None:
            solved.append(problem.number)
    print(f"\n{method} solves {len(solved)}, not {sorted(set(range(1, 36)) - set(solved))}")
    assert len(solved) >= least


# ---- AdaHessian
def test_adahessian_is_the_papers_recursion():
    """On a diagonal quadratic z ⊙ Hz is the diagonal itself, whatever z."""
    a = torch.tensor([1.0, 20.0, 300.0], dtype=F64)
    x = torch.nn.Parameter(torch.ones(3, dtype=F64))

    def closure():
        x.grad = a * x.detach()
        return 0.5 * float((a * x.detach() ** 2).sum())

    args = {"lr": 0.3, "betas": (0.8, 0.99), "power": 0.5}
    opt = Fuse([x], switchover="always", second_order="adahessian", second_order_args=args)
    y, m, v = torch.ones(3, dtype=F64), torch.zeros(3, dtype=F64), torch.zeros(3, dtype=F64)
    for k in range(1, 20):
        opt.step(closure)
        m = 0.8 * m + 0.2 * a * y
        v = 0.99 * v + 0.01 * a**2
        y = y - 0.3 * (m / (1 - 0.8**k)) / ((v / (1 - 0.99**k)).sqrt().sqrt() + 1e-4)
        torch.testing.assert_close(x.detach(), y, rtol=1e-6, atol=1e-9)
    report = opt.last_step
    assert (report.evals, report.loss_after, report.step_length, report.pair) == (2, None, 1.0, None)


def test_adahessians_probes_depend_on_the_seed_and_the_number_alone():
    paths = []
    for seed in (0, 0, 1):
        model, x, y = net()
        opt = Fuse(model.parameters(), switchover="always", second_order="adahessian", second_order_args={"seed": seed})
        torch.manual_seed(len(paths))  # torch's own generator has no part in it
        paths.append(train(opt, model, x, y, 5)[0][-1])
    assert torch.equal(paths[0], paths[1])
    assert not torch.equal(paths[0], paths[2])


def test_adahessians_groups_step_as_their_lr_stand_to_one_another():
    a, b = (torch.nn.Parameter(torch.ones(2, dtype=F64)) for _ in range(2))
    opt = Fuse([{"params": [a], "lr": 1e-2}, {"params": [b], "lr": 5e-3}], switchover="always",
               second_order="adahessian")  # fmt: skip

    def closure():
        opt.zero_grad()
        loss = a.square().sum() + 7 * b.square().sum()
        loss.backward()
        return loss

    opt.step(closure)
    steps = [float((1 - p.detach()).mean()) for p in (a, b)]
    assert steps[1] == pytest.approx(0.5 * steps[0], rel=1e-3)


# ---- all of them
@each
@pytest.mark.parametrize("full_batch", [False, True])
def test_each_lowers_the_loss_after_adam(method, full_batch):
    model, x, y = net()
    options = {"lr": 1e-2, "switchover": "step:5", "full_batch": full_batch, "second_order": method}
    opt = FusePV(model.parameters(), **options)
    _, losses = train(opt, model, x, y, 60, full_batch=True)
    assert opt.phase == "second_order"
    assert losses[-1] < 0.7 * losses[5]
    assert method in repr(opt)


CASES = {
    "step": {"switchover": "step:4"},
    "full": {"switchover": "step:4", "full_batch": True},
    "both": {"switchover": "step:4", "handover": "both", "full_batch": True},
    "blend": {"switchover": "theta:linear:8"},
    "blend-full": {"switchover": "theta:0.5", "full_batch": True},
    "inner": {"switchover": "always", "inner_steps": 3, "max_evals": 9},
}


@pytest.mark.parametrize("how", ["state_dict", "deepcopy"])
@pytest.mark.parametrize("case", CASES)
@each
def test_resume_at_any_moment_is_bit_for_bit(method, case, how, tmp_path):
    options = {"lr": 1e-2, "second_order": method} | CASES[case]
    full = options.get("full_batch", False)
    model, x, y = net()
    opt = Fuse(model.parameters(), **options)
    saved, path = [], []
    for k in range(12):
        if how == "deepcopy":
            saved.append(copy.deepcopy((model, opt)))
        else:
            torch.save((model.state_dict(), opt.state_dict()), tmp_path / f"{k}.pt")
        path += train(opt, model, x, y, 1, start=k, full_batch=full)[0]
    for k in range(12):
        if how == "deepcopy":
            twin_model, twin = saved[k]
        else:
            weights, state = torch.load(tmp_path / f"{k}.pt", weights_only=True)
            twin_model, *_ = net()
            twin_model.load_state_dict(weights)
            twin = Fuse(twin_model.parameters(), **options)
            twin.load_state_dict(state)
        after, _ = train(twin, twin_model, x, y, min(3, 12 - k), start=k, full_batch=full)
        assert all(torch.equal(a, b) for a, b in zip(after, path[k:], strict=False)), f"saved before step {k + 1}"


@each
def test_an_exception_at_any_evaluation_restores_the_start(method):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover="always", second_order=method)
    train(opt, model, x, y, 3)
    for at in range(1, 5):
        plain, calls, before = closure_for(opt, model, x, y), 0, flat(model)

        def closure(at=at, plain=plain):
            nonlocal calls
            calls += 1
            if calls == at:
                raise KeyboardInterrupt
            return plain()

        twin_model, twin = copy.deepcopy((model, opt))
        with contextlib.suppress(KeyboardInterrupt):
            opt.step(closure)
        if calls == at:
            assert torch.equal(flat(model), before)
            twin.step(closure_for(twin, twin_model, x, y))
            opt.step(plain)
            assert torch.equal(flat(model), flat(twin_model)), "as if nothing had been"


@each
def test_frozen_parameters_stay_and_groups_of_lr_0_too(method):
    model, x, y = net()
    model[0].bias.requires_grad_(False)
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.0}]
    opt = Fuse(groups, lr=1e-2, switchover="always", second_order=method)
    before = [p.detach().clone() for p in model.parameters()]
    train(opt, model, x, y, 5)
    moved = [not torch.equal(p.detach(), old) for p, old in zip(model.parameters(), before, strict=True)]
    assert moved == [True, False, False, False]


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ({"second_order": "newton"}, "second_order", "'newton'"),
        ({"second_order": None}, "second_order", "None"),
        ({"second_order": ["cg"]}, "second_order", "['cg']"),
        ({"second_order_args": {"lr": 1.0}}, "second_order_args", "'lr'"),
        ({"second_order": "adahessian", "second_order_args": [0.1]}, "second_order_args", "[0.1]"),
        ({"second_order": "adahessian", "second_order_args": {"momentum": 0.9}}, "second_order_args", "'momentum'"),
        ({"second_order": "adahessian", "second_order_args": {"lr": -1.0}}, "lr", "-1.0"),
        ({"second_order": "adahessian", "second_order_args": {"betas": (0.9, 1.0)}}, "betas", "1.0"),
        ({"second_order": "newton-cg", "second_order_args": {"length": 0}}, "length", "0"),
        ({"second_order": "cg", "history_size": 20}, "history_size", "20"),
        ({"second_order": "newton-cg", "history_dtype": torch.bfloat16}, "history_dtype", "bfloat16"),
        ({"second_order": "adahessian", "damped": True}, "damped", "True"),
        ({"second_order": "cg", "scaling": "adaptive"}, "scaling", "'adaptive'"),
        ({"second_order": "adahessian", "handover": "metric"}, "handover", "'metric'"),
    ],
    ids=str,
)
def test_errors_name_the_argument_the_value_and_what_is_allowed(options, name, value):
    with pytest.raises((ValueError, TypeError)) as caught:
        Fuse(net()[0].parameters(), **options)
    assert all(word in str(caught.value) for word in (name, value, "allowed"))


def test_every_option_of_a_method_is_checked():
    assert own_options(METHODS["adahessian"]) == ("lr", "betas", "eps", "power", "seed", "length")
    assert own_options(METHODS["newton-cg"]) == ("length",)
    assert own_options(METHODS["cg"]) == own_options(METHODS["lbfgs"]) == ()


@each
def test_the_state_of_another_method_is_refused(method):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover="always")
    train(opt, model, x, y, 3)
    twin = Fuse(model.parameters(), switchover="always", second_order=method)
    with pytest.raises(ValueError, match=rf"second_order={method}.*saved with second_order=lbfgs"):
        twin.load_state_dict(opt.state_dict())


@pytest.mark.parametrize("full_batch", [False, True])
@each
def test_a_fresh_optimizer_that_was_allocated_has_the_entries_of_a_used_one(method, full_batch):
    """A distributed checkpoint loads only what is there already."""
    names = []
    for used in (True, False):
        model, x, y = net()
        opt = Fuse(model.parameters(), switchover="step:3", full_batch=full_batch, second_order=method)
        if used:
            train(opt, model, x, y, 6, full_batch=True)
        else:
            opt.allocate()
        state = opt.state_dict()["state"]
        names.append(
            {
                i: sorted(k for k in entry if str(k).startswith("fuse_") and k != "fuse_empty")
                for i, entry in state.items()
            }
        )
        assert any("failures" in k for k in names[-1][0])
    assert names[0] == names[1]


@processes
@each
def test_ddp_with_local_losses_is_one_process_on_the_whole_batch(method):
    options = {"switchover": "step:5", "second_order": method}
    paths, _ = zip(*ranks.on_ranks(ranks.ddp, 2, options, 12), strict=True)
    assert torch.equal(*paths)
    model, x, y = net()
    opt = Fuse(model.parameters(), lr=1e-2, **options)
    for _ in range(12):
        opt.step(closure_for(opt, model, x, y))
    torch.testing.assert_close(paths[0][-1], flat(model), rtol=1e-4, atol=1e-5)


@processes
@pytest.mark.parametrize("method", ["cg", "newton-cg"])
def test_fsdp2_follows_the_unsharded_path(method):
    options = {"switchover": "step:4", "second_order": method}
    results = ranks.on_ranks(ranks.sharded, 2, options, 10, (7,))
    assert torch.equal(results[0][0], results[1][0])
    model, x, y = ranks.wide_net((7,))
    opt, path = Fuse(model.parameters(), lr=1e-2, **options), []
    for _ in range(10):
        opt.step(closure_for(opt, model, x, y))
        path.append(flat(model))
    torch.testing.assert_close(results[0][0], torch.stack(path), rtol=1e-4, atol=1e-5)


def refused(rank, count):
    """What AdaHessian says to sharded parameters."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model, *_ = ranks.wide_net((7,))
    fully_shard(model, mesh=init_device_mesh("cpu", (count,)))
    try:
        Fuse(model.parameters(), second_order="adahessian")
    except ValueError as error:
        return str(error)


@processes
def test_adahessian_refuses_sharded_parameters():
    assert "second_order: got 'adahessian' with DTensor parameters; allowed is" in ranks.on_ranks(refused, 2)[0]
