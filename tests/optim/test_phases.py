"""θ = 1, θ = 0 and θ between are Adam, L-BFGS and the stated blend, against a few lines of plain tensors."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import optim

from fuse_lib import LBFGS, Fuse
from tests.optim.tools import closure_for, flat, minibatches, net


def quadratic(seed=0, n=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, n, generator=generator, dtype=dtype)
    a = a @ a.T + torch.eye(n, dtype=dtype)
    b = torch.randn(n, generator=generator, dtype=dtype)
    p = torch.nn.Parameter(torch.randn(n, generator=generator, dtype=dtype))

    def closure():
        p.grad = a @ p.detach() - b
        return 0.5 * p.detach() @ a @ p.detach() - b @ p.detach()

    return p, closure, a, b


def adam_step(x, g, m, v, k, lr, betas=(0.9, 0.999), eps=1e-8):
    """Torch's Adam in plain tensors: the paper's, with eps added after the bias correction."""
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g * g
    m_hat, v_hat = m / (1 - betas[0] ** k), v / (1 - betas[1] ** k)
    return x - lr * m_hat / (v_hat.sqrt() + eps), m, v


def test_theta_one_is_adam():
    p, closure, a, b = quadratic()
    opt = Fuse([p], lr=0.1, switchover="theta:1.0")
    x, m, v = p.detach().clone(), torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for k in range(1, 20):
        x, m, v = adam_step(x, a @ x - b, m, v, k, lr=0.1)
        opt.step(closure)
        torch.testing.assert_close(p.detach(), x, rtol=1e-12, atol=1e-14)
        assert opt.last_step.phase == "first_order"


def bfgs_direction(pairs, g):
    """−Hg with H built by the dense BFGS update from γI (Nocedal & Wright, eq. 6.17)."""
    n = len(g)
    eye = torch.eye(n, dtype=g.dtype)
    if not pairs:
        return -g
    s, y = pairs[-1]
    h = (s @ y) / (y @ y) * eye
    for s, y in pairs:
        rho = 1 / (s @ y)
        h = (eye - rho * torch.outer(s, y)) @ h @ (eye - rho * torch.outer(y, s)) + rho * torch.outer(s, s)
    return -h @ g


@pytest.mark.parametrize("full_batch", [False, True])
def test_theta_zero_is_lbfgs_with_the_reported_steps(full_batch):
    p, closure, a, b = quadratic()
    opt = Fuse([p], switchover="always", history_size=4, full_batch=full_batch)
    x, pairs = p.detach().clone(), []
    for _ in range(7):
        g = a @ x - b
        direction = bfgs_direction(pairs[-4:], g)
        opt.step(closure)
        new = x + opt.last_step.step_length * direction
        torch.testing.assert_close(p.detach(), new, rtol=1e-6, atol=1e-7)
        pairs.append((p.detach() - x, (a @ p.detach() - b) - g))
        x = p.detach().clone()


@pytest.mark.parametrize("full_batch", [False, True])
def test_theta_between_is_the_blend(full_batch):
    theta = 0.3
    p, closure, a, b = quadratic()
    opt = Fuse([p], lr=0.1, switchover=f"theta:{theta}", full_batch=full_batch)
    x, m, v = p.detach().clone(), torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    pairs = []
    for k in range(1, 9):
        g = a @ x - b
        x_adam, m, v = adam_step(x, g, m, v, k, lr=0.1)
        direction = bfgs_direction(pairs[-10:], g)
        opt.step(closure)
        report = opt.last_step
        x_lbfgs = x + report.step_length * direction
        new = theta * x_adam + (1 - theta) * x_lbfgs
        torch.testing.assert_close(p.detach(), new, rtol=1e-6, atol=1e-7)
        cosine = torch.nn.functional.cosine_similarity(x_adam - x, x_lbfgs - x, dim=0)
        assert report.cosine == pytest.approx(float(cosine), abs=1e-7)
        assert (report.phase, report.theta) == ("blend", theta)
        pairs.append((new - x, (a @ new - b) - g))
        x = new


def test_a_failed_search_leaves_the_first_order_step():
    """The loss grows in every direction while the gradient says otherwise: x_{k+1} = x^A."""
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    start = p.detach().clone()

    def closure():
        p.grad = torch.ones(3, dtype=torch.float64)
        return (p.detach() - start).abs().sum() + 1.0

    opt = Fuse([p], lr=0.1, switchover="theta:0.5")
    opt.step(closure)
    torch.testing.assert_close(p.detach(), start - 0.1, rtol=1e-6, atol=0)
    assert opt.last_step.stop_reason == "max_evals"
    assert opt.last_step.step_length == 0.0


def test_linear_theta_goes_from_adam_through_blends_to_lbfgs():
    model, x, y = net()
    opt = Fuse(model.parameters(), lr=1e-2, switchover="theta:linear:4")
    thetas = []
    for _ in range(6):
        opt.step(closure_for(opt, model, x, y))
        thetas.append(opt.last_step.theta)
    assert thetas == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_aligned_theta_follows_the_last_cosine():
    model, x, y = net()
    opt = Fuse(model.parameters(), lr=1e-2, switchover="theta:aligned")
    thetas = set()
    for _ in range(8):
        opt.step(closure_for(opt, model, x, y))
        cosine = opt.last_step.cosine
        assert opt.theta == pytest.approx(0.95 - 0.9 * min(1.0, max(0.0, cosine)), abs=1e-12)
        thetas.add(opt.theta)
    assert len(thetas) == 8


@pytest.mark.parametrize("make", [lambda p: LBFGS(p, full_batch=True), lambda p: LBFGS(p)], ids=["full", "plain"])
def test_step_returns_the_value_at_its_start_and_counts_its_calls(make):
    p, plain, *_ = quadratic()
    calls = []

    def closure():
        calls.append(float(plain()))
        return torch.tensor(calls[-1], dtype=torch.float64)

    opt = make([p])
    for _ in range(6):
        before, at_start = len(calls), float(plain())
        returned = opt.step(closure)
        assert float(returned) == at_start == opt.last_step.loss
        assert opt.last_step.evals == len(calls) - before
        assert opt.last_step.loss_after == float(plain()) <= at_start


def test_inner_steps_share_one_closure_and_its_budget():
    model, x, y = net()
    one = LBFGS(model.parameters())
    for _ in range(3):
        one.step(closure_for(one, model, x, y))
    three_model, *_ = net()
    three = LBFGS(three_model.parameters(), inner_steps=3)
    three.step(closure_for(three, three_model, x, y))
    torch.testing.assert_close(flat(three_model), flat(model), rtol=1e-10, atol=1e-12)
    few_model, *_ = net()
    few = LBFGS(few_model.parameters(), inner_steps=50, max_evals=5)
    few.step(closure_for(few, few_model, x, y))
    assert few.last_step.evals <= 5


def test_coupled_weight_decay_is_part_of_the_objective():
    model, x, y = net()
    decayed = Fuse(model.parameters(), lr=1e-2, switchover="step:3", first_order_args={"weight_decay": 0.1})
    twin, *_ = net()
    plain = Fuse(twin.parameters(), lr=1e-2, switchover="step:3")

    def penalised():
        plain.zero_grad()
        loss = (twin(x) - y).square().mean() + 0.05 * sum(p.square().sum() for p in twin.parameters())
        loss.backward()
        return loss

    for _ in range(10):
        decayed.step(closure_for(decayed, model, x, y))
        plain.step(penalised)
    torch.testing.assert_close(flat(model), flat(twin), rtol=1e-6, atol=1e-8)


def test_decoupled_weight_decay_is_left_out_with_one_warning():
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover="step:1", first_order=optim.AdamW, first_order_args={"weight_decay": 0.1})
    opt.step(closure_for(opt, model, x, y))
    with pytest.warns(UserWarning, match="AdamW's decoupled weight decay"):
        opt.step(closure_for(opt, model, x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opt.step(closure_for(opt, model, x, y))


@pytest.mark.parametrize("switchover", ["always", "step:3", "theta:0.5"])
def test_maximize_is_minimising_the_negative(switchover):
    model, x, y = net()
    up = Fuse(model.parameters(), lr=1e-2, switchover=switchover, first_order_args={"maximize": True})
    twin, *_ = net()
    down = Fuse(twin.parameters(), lr=1e-2, switchover=switchover)

    def negative():
        up.zero_grad()
        loss = -(model(x) - y).square().mean()
        loss.backward()
        return loss

    for _ in range(8):
        up.step(negative)
        down.step(closure_for(down, twin, x, y))
        assert torch.equal(flat(model), flat(twin))


def test_groups_with_lr_zero_are_frozen_in_the_second_phase():
    model, x, y = net()
    first, _, last = model
    groups = [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.0}]
    opt = Fuse(groups, lr=1e-2, switchover="step:2")
    before = last.weight.detach().clone()
    for _ in range(6):
        opt.step(closure_for(opt, model, x, y))
    assert torch.equal(last.weight.detach(), before)
    assert opt.last_step.loss_after < opt.last_step.loss


def test_frozen_parameters_do_not_move_even_with_a_history():
    model, x, y = net()
    opt = LBFGS(model.parameters())
    for _ in range(4):
        opt.step(closure_for(opt, model, x, y))
    model[0].requires_grad_(False)  # its .grad is still there
    before, last = model[0].weight.detach().clone(), model[2].weight.detach().clone()
    for _ in range(3):
        opt.step(closure_for(opt, model, x, y))
    assert torch.equal(model[0].weight.detach(), before)
    assert not torch.equal(model[2].weight.detach(), last)


def test_metric_is_a_change_of_variables():
    """L-BFGS in x with D equals L-BFGS without it on z = D^(−1/2) x, where the minimiser's path is the same."""
    p, closure, a, b = quadratic()
    opt = Fuse([p], lr=0.1, switchover="step:5", handover="metric")
    for _ in range(5):
        opt.step(closure)
    v = opt.state[p]["exp_avg_sq"] / (1 - 0.999**5)
    root = (1 / (v.sqrt() / v.sqrt().mean() + 0.1)).sqrt()
    z = torch.nn.Parameter(p.detach() / root)
    plain = LBFGS([z])

    def in_z():
        x = z.detach() * root
        z.grad = root * (a @ x - b)
        return 0.5 * x @ a @ x - b @ x

    for _ in range(6):
        opt.step(closure)
        plain.step(in_z)
        torch.testing.assert_close(p.detach(), z.detach() * root, rtol=1e-8, atol=1e-9)


def test_full_batch_costs_one_evaluation_an_iteration():
    model, x, y = net()
    opt = LBFGS(model.parameters(), full_batch=True)
    evals = []
    for _ in range(30):
        opt.step(closure_for(opt, model, x, y))
        evals.append(opt.last_step.evals)
    assert evals[0] >= 3  # the start, the promise, a trial
    assert sum(e == 1 for e in evals[1:]) > 20


@pytest.mark.parametrize("touch", ["copy", "data"])
def test_full_batch_notices_that_parameters_were_changed(touch):
    model, x, y = net()
    opt = LBFGS(model.parameters(), full_batch=True)
    for _ in range(3):
        opt.step(closure_for(opt, model, x, y))
    if touch == "data":
        model[0].weight.data.mul_(0.5)
    else:
        with torch.no_grad():
            model[0].weight.mul_(0.5)
    expected = float((model(x) - y).detach().square().mean())
    assert float(opt.step(closure_for(opt, model, x, y)).detach()) == expected
    assert opt.last_step.evals >= 2


def test_a_broken_full_batch_promise_is_named():
    torch.manual_seed(0)
    model, x, y = net()
    model.insert(2, torch.nn.Dropout(0.5))
    opt = LBFGS(model.parameters(), full_batch=True)
    before = flat(model)
    with pytest.raises(RuntimeError, match=r"full_batch.*dropout.*batch norm.*resampling"):
        opt.step(closure_for(opt, model, x, y))
    assert torch.equal(flat(model), before)


def test_a_batch_that_changes_from_one_call_to_the_next_is_a_broken_promise():
    """It is noticed as soon as a search finds nothing lower, which on another batch does not take long."""
    model, x, y = net()
    opt = LBFGS(model.parameters(), full_batch=True)

    def minibatch_loop():
        for k in range(50):
            opt.step(closure_for(opt, model, *minibatches(x, y, k)))

    with pytest.raises(RuntimeError, match=r"full_batch.*closures of two steps.*from one step to the next"):
        minibatch_loop()
    assert flat(model).isfinite().all()


def test_a_closure_without_backward_is_named_in_the_report():
    model, x, y = net()
    opt = LBFGS(model.parameters())
    opt.step(lambda: (model(x) - y).square().mean())
    assert opt.last_step.stop_reason == "no_gradient"


def test_repr_shows_the_rule_and_the_phase():
    assert "switchover: step:3, phase: first_order" in repr(Fuse(net()[0].parameters(), switchover="step:3"))


@pytest.mark.parametrize("switchover", ["never", "step:9", "gradnorm:1e-3:2"])
def test_a_closure_without_backward_is_named_in_the_first_phase_too(switchover):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover=switchover)
    opt.step(lambda: (model(x) - y).square().mean())
    assert (opt.last_step.phase, opt.last_step.stop_reason) == ("first_order", "no_gradient")
    opt.step(closure_for(opt, model, x, y))
    assert opt.last_step.stop_reason is None


@pytest.mark.parametrize("how", [copy.deepcopy, lambda report: pickle.loads(pickle.dumps(report))])
@pytest.mark.parametrize("switchover", ["never", "gradnorm:1e-3:2", "always", "theta:0.5"])
def test_a_report_can_be_copied_and_pickled(switchover, how):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover=switchover, full_batch=True)
    opt.step(closure_for(opt, model, x, y))
    twin = how(opt.last_step)
    assert twin.as_dict() == opt.last_step.as_dict()
    assert repr(twin) == repr(opt.last_step)
