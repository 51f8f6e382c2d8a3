"""Phase one is torch's own optimizer, bit for bit."""

import math

import pytest
import torch
from torch import optim

from fuse_lib import Fuse
from fuse_lib.optim.vectors import Vectors
from tests.optim.tools import closure_for, flat, groups_of, minibatches, net

FIRST = {
    "adam": (optim.Adam, {}),
    "adam-foreach": (optim.Adam, {"foreach": True}),
    "adam-fused": (optim.Adam, {"fused": True}),
    "adam-amsgrad-decay": (optim.Adam, {"amsgrad": True, "weight_decay": 1e-2}),
    "adamw": (optim.AdamW, {"weight_decay": 1e-2}),
    "sgd-momentum": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (optim.RMSprop, {}),
    "nadam": (optim.NAdam, {}),
}


def run(make, dtype, poison=None):
    """200 steps on minibatches with two groups and a scheduler; the parameters after each."""
    model, x, y = net(dtype)
    opt = make(groups_of(model))
    scheduler = optim.lr_scheduler.CosineAnnealingLR(opt, T_max=200)
    path = []
    for k in range(200):
        closure = closure_for(opt, model, *minibatches(x, y, k))
        if k == poison:
            clean = closure

            def closure(clean=clean):
                loss = clean()
                model[0].weight.grad[0, 0] = torch.nan
                return loss

        opt.step(closure)
        scheduler.step()
        path.append(flat(model))
    return torch.stack(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("handover", ["none", "pairs", "metric", "both"])
@pytest.mark.parametrize("name", FIRST)
def test_never_is_the_bare_optimizer_bit_for_bit(name, handover, dtype):
    cls, args = FIRST[name]
    if handover == "metric" and cls is optim.SGD:
        pytest.skip("SGD keeps no second moments, so 'metric' is refused (test_errors)")
    bare = run(lambda groups: cls(groups, lr=1e-2, **args), dtype)
    ours = run(
        lambda groups: Fuse(
            groups, lr=1e-2, switchover="never", first_order=cls, first_order_args=args, handover=handover
        ),
        dtype,
    )
    assert torch.equal(bare, ours)


@pytest.mark.parametrize("name", ["adam", "sgd-momentum"])
def test_nan_gradients_go_through_like_torchs(name):
    cls, args = FIRST[name]
    bare = run(lambda groups: cls(groups, lr=1e-2, **args), torch.float32, poison=20)
    ours = run(
        lambda groups: Fuse(groups, lr=1e-2, switchover="step:1000", first_order=cls, first_order_args=args),
        torch.float32,
        poison=20,
    )
    assert torch.isnan(bare[-1]).any()
    assert torch.equal(bare.isnan(), ours.isnan())
    assert torch.equal(bare.nan_to_num(), ours.nan_to_num())


@pytest.mark.parametrize("options", [{"skip_nonfinite": True}, {"switchover": "losschange:1e-9:5"}], ids=str)
def test_non_finite_steps_are_skipped_and_reported_where_values_are_read(options):
    model, x, y = net()
    opt = Fuse(model.parameters(), **({"switchover": "never"} | options))
    good = closure_for(opt, model, x, y)

    def bad():
        loss = good()
        model[0].weight.grad[0, 0] = torch.inf
        return loss

    opt.step(good)
    before, moments = flat(model), [s["exp_avg"].clone() for s in opt.state.values()]
    opt.step(bad)
    assert torch.equal(flat(model), before)
    assert all(torch.equal(s["exp_avg"], m) for s, m in zip(opt.state.values(), moments, strict=True))
    assert opt.last_step.stop_reason == "non_finite"
    opt.step(good)
    assert not torch.equal(flat(model), before)
    assert opt.last_step.stop_reason is None


@pytest.mark.parametrize("stale", [torch.inf, torch.nan, 1e30])
def test_a_gradient_that_a_frozen_parameter_still_has_is_looked_at_too(stale):
    """torch's optimizers step along it; no rule counts it into the norm."""
    free, frozen = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    opt = Fuse([free, frozen], switchover="never", skip_nonfinite=True)
    frozen.requires_grad_(False).grad = torch.full((3,), stale)

    def closure():
        free.grad = None
        loss = free.square().sum()
        loss.backward()
        return loss

    opt.step(closure)
    finite = math.isfinite(stale)
    assert opt.last_step.stop_reason == (None if finite else "non_finite")
    assert frozen.isfinite().all()
    assert torch.equal(free, torch.ones(3)) != finite
    if finite:
        assert opt.last_step.grad_norm == pytest.approx(math.sqrt(12))


@pytest.mark.parametrize("check_every", [1, 2])
@pytest.mark.parametrize("size", [1e-30, 1e-20, 1.0, 1e18, 1e25, 3e37])
def test_the_norm_of_a_gradient_has_the_range_of_the_gradient(size, check_every):
    """The squares of many float32 numbers are none of float32's."""
    params = [torch.nn.Parameter(torch.zeros(n)) for n in (3, 1)]
    opt = Fuse(params, switchover="gradnorm:1e-300", skip_nonfinite=True, check_every=check_every)

    def closure():
        for p in params:
            p.grad = torch.full_like(p, size)
        return torch.tensor(0.0)

    opt.step(closure)
    assert opt.last_step.stop_reason is None
    assert opt.last_step.grad_norm == pytest.approx(2 * size, rel=1e-5)


def test_the_norm_of_a_gradient_is_taken_without_a_copy(monkeypatch):
    params = [torch.nn.Parameter(torch.ones(n)) for n in (3, 2)]
    opt = Fuse(params, switchover="gradnorm:1e-9")
    monkeypatch.setattr(Vectors, "gradient", None)
    monkeypatch.setattr(Vectors, "flat", None)
    monkeypatch.setattr(Vectors, "_plain_gradient", None)

    def closure():
        for p in params:
            p.grad = 2 * p.detach()
        return 7.0

    opt.step(closure)
    assert opt.last_step.grad_norm == pytest.approx(math.sqrt(20))


def test_the_switch_comes_after_exactly_k_steps():
    model, x, y = net()
    bare_model, *_ = net()
    bare = optim.Adam(bare_model.parameters(), lr=1e-2)
    opt = Fuse(model.parameters(), lr=1e-2, switchover="step:12")
    for k in range(12):
        assert opt.phase == "first_order"
        bare.step(closure_for(bare, bare_model, *minibatches(x, y, k)))
        opt.step(closure_for(opt, model, *minibatches(x, y, k)))
        assert torch.equal(flat(model), flat(bare_model))
    assert opt.phase == "second_order"
    opt.step(closure_for(opt, model, x, y))
    assert opt.last_step.phase == "second_order"


@pytest.mark.parametrize("full_batch", [False, True])
def test_pairs_are_collected_only_near_a_switch_that_is_known(full_batch):
    """step:30 with m = 4: 26 steps cost one evaluation, the last 4 one more unless y comes for nothing."""
    model, x, y = net()
    opt = Fuse(model.parameters(), lr=1e-3, switchover="step:30", history_size=4, full_batch=full_batch)
    evals = []
    for _ in range(30):
        opt.step(closure_for(opt, model, x, y))
        evals.append(opt.last_step.evals)
    assert evals == [1] * 26 + [1 if full_batch else 2] * 4
    opt.step(closure_for(opt, model, x, y))
    kept, collected = opt.last_step.handed_over
    # the fourth pair of a full-batch run is completed by the second phase's own first evaluation
    assert collected == (3 if full_batch else 4)
    assert 0 < kept <= collected


def test_after_an_unforeseen_switch_m_more_steps_collect_pairs():
    model, x, y = net()
    opt = Fuse(model.parameters(), lr=1e-3, switchover="gradnorm:1e9", history_size=3)
    phases, evals = [], []
    for _ in range(5):
        phases.append(opt.phase)
        opt.step(closure_for(opt, model, x, y))
        evals.append(opt.last_step.evals)
    assert phases == ["first_order"] * 4 + ["second_order"]
    assert evals[:4] == [1, 2, 2, 2]
    assert opt.last_step.handed_over[1] == 3


def test_handing_nothing_over_costs_nothing():
    model, x, y = net()
    opt = Fuse(model.parameters(), lr=1e-3, switchover="gradnorm:1e9", handover="none")
    opt.step(closure_for(opt, model, x, y))
    assert (opt.phase, opt.last_step.evals) == ("second_order", 1)


def test_check_every_delays_the_answer_but_sees_every_observation():
    """σ is met at call 4; with check_every=5 the switch is known after call 5."""
    losses = iter([5.0, 3.0, 2.0, 2.0, 7.0, 7.0])
    p = torch.nn.Parameter(torch.zeros(2))
    opt = Fuse([p], switchover="losschange:0.5", handover="none", check_every=5)

    def closure():
        p.grad = torch.ones(2)
        return torch.tensor(next(losses))

    for _ in range(4):
        opt.step(closure)
    assert opt.phase == "first_order"
    opt.step(closure)
    assert opt.phase == "second_order"


def test_a_state_of_the_bare_optimizer_loads():
    """Who trained with Adam goes on with Fuse."""
    model, x, y = net()
    adam = optim.Adam(model.parameters(), lr=1e-2)
    for k in range(5):
        adam.step(closure_for(adam, model, *minibatches(x, y, k)))
    twin, *_ = net()
    twin.load_state_dict(model.state_dict())
    opt = Fuse(twin.parameters(), lr=1e-2, switchover="step:100")
    with pytest.warns(UserWarning, match="bare first-order"):
        opt.load_state_dict(adam.state_dict())
    adam.step(closure_for(adam, model, x, y))
    opt.step(closure_for(opt, twin, x, y))
    assert torch.equal(flat(model), flat(twin))
