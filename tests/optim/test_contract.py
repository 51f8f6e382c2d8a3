"""What every torch optimizer does, and Fuse has to do across its switch too."""

import copy
import io
import os
import subprocess
import sys

import pytest
import torch
from torch import optim
from torch.optim import lr_scheduler as sched
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from fuse_lib import LBFGS, Fuse, FusePV
from tests.optim.tools import closure_for, flat, groups_of, net, train

MAKERS = {
    "fuse": lambda p: Fuse(p, lr=1e-2, switchover="step:5", history_size=3),
    "blend": lambda p: Fuse(p, lr=1e-2, switchover="theta:linear:8", history_size=3),
    "lbfgs": lambda p: LBFGS(p, history_size=3),
}
each = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@each
def test_hooks_fire_once_a_step_and_in_order(make):
    model, x, y = net()
    opt, log = make(model.parameters()), []
    handles = [
        register_optimizer_step_pre_hook(lambda *_: log.append("global before")),
        opt.register_step_pre_hook(lambda *_: log.append("before")),
        opt.register_step_post_hook(lambda *_: log.append("after")),
        register_optimizer_step_post_hook(lambda *_: log.append("global after")),
    ]
    train(opt, model, x, y, 8)
    for handle in handles:
        handle.remove()
    train(opt, model, x, y, 1)
    assert log == ["global before", "before", "after", "global after"] * 8


SCHEDULERS = {
    "lambda": lambda o: sched.LambdaLR(o, lambda k: 0.9**k),
    "multiplicative": lambda o: sched.MultiplicativeLR(o, lambda k: 0.9),
    "step": lambda o: sched.StepLR(o, 2),
    "multistep": lambda o: sched.MultiStepLR(o, [2, 7]),
    "constant": lambda o: sched.ConstantLR(o, 0.5),
    "linear": lambda o: sched.LinearLR(o),
    "exponential": lambda o: sched.ExponentialLR(o, 0.9),
    "polynomial": lambda o: sched.PolynomialLR(o, 20),
    "cosine": lambda o: sched.CosineAnnealingLR(o, 20),
    "restarts": lambda o: sched.CosineAnnealingWarmRestarts(o, 3),
    "one-cycle": lambda o: sched.OneCycleLR(o, 1e-2, total_steps=20, cycle_momentum=False),
    "cyclic": lambda o: sched.CyclicLR(o, 1e-3, 1e-2, step_size_up=2, cycle_momentum=False),
    "sequential": lambda o: sched.SequentialLR(o, [sched.ConstantLR(o, 0.5), sched.ExponentialLR(o, 0.9)], [3]),
    "chained": lambda o: sched.ChainedScheduler([sched.ConstantLR(o, 0.5), sched.ExponentialLR(o, 0.9)]),
    "plateau": lambda o: sched.ReduceLROnPlateau(o, patience=0, threshold=10.0),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_drives_the_first_phase_as_it_drives_torchs(name):
    paths = []
    for make in (lambda p: optim.Adam(p, lr=1e-2), lambda p: Fuse(p, lr=1e-2, switchover="step:8")):
        model, x, y = net()
        opt = make(model.parameters())
        scheduler, path, lrs = SCHEDULERS[name](opt), [], []
        for k in range(8):
            losses = train(opt, model, x, y, 1, start=k)[1]
            scheduler.step(losses[0]) if name == "plateau" else scheduler.step()
            lrs.append(opt.param_groups[0]["lr"])
            path.append(flat(model))
        paths.append(torch.stack(path))
        assert len(set(lrs)) > 1
    assert torch.equal(*paths)
    for _ in range(4):  # and does no harm in the second
        assert opt.phase == "second_order"
        losses = train(opt, model, x, y, 1, full_batch=True)[1]
        scheduler.step(losses[0]) if name == "plateau" else scheduler.step()
    assert opt.last_step.loss_after < opt.last_step.loss


def test_a_schedule_that_ends_at_zero_does_not_freeze_the_second_phase():
    model, x, y = net()
    opt = Fuse(groups_of(model), lr=1e-2, switchover="step:5")
    scheduler = sched.CosineAnnealingLR(opt, T_max=5)
    train(opt, model, x, y, 5, scheduler=scheduler)
    assert all(group["lr"] == 0.0 for group in opt.param_groups)
    before = flat(model)
    train(opt, model, x, y, 1)
    assert not torch.equal(flat(model), before)


@each
def test_state_dict_hooks_see_the_whole_state(make):
    model, x, y = net()
    opt, seen = make(model.parameters()), []
    train(opt, model, x, y, 7)
    opt.register_state_dict_post_hook(lambda _, state: seen.append("fuse_calls" in state["state"][0]))
    opt.register_load_state_dict_pre_hook(lambda _, state: seen.append("fuse_calls" in state["state"][0]))
    opt.load_state_dict(opt.state_dict())
    assert seen == [True, True]


@each
def test_add_param_group_clears_the_history_and_goes_on(make):
    model, x, y = net()
    first, _, last = model
    opt = make(list(first.parameters()))
    train(opt, model, x, y, 9)
    opt.add_param_group({"params": list(last.parameters())})
    before = last.weight.detach().clone()
    _, losses = train(opt, model, x, y, 6, full_batch=True)
    assert not torch.equal(last.weight.detach(), before)
    assert losses[-1] < losses[0]


@each
def test_zero_gradients_and_missing_gradients_move_nothing(make):
    model, *_ = net()
    opt, before = make(model.parameters()), flat(model)
    opt.step(lambda: torch.tensor(1.0))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(8):
        opt.step(lambda: torch.tensor(1.0))
    assert torch.equal(flat(model), before)


@each
def test_gradients_and_the_closures_loss_are_left_alone(make):
    model, x, y = net()
    opt, kept = make(model.parameters()), []
    plain = closure_for(opt, model, x, y)

    def closure():
        loss = plain()
        kept.append((loss, loss.detach().clone(), [(p.grad, p.grad.clone()) for p in model.parameters()]))
        return loss

    for _ in range(8):
        opt.step(closure)
    for loss, value, grads in kept:
        assert torch.equal(loss.detach(), value)
        assert all(torch.equal(g, copy) for g, copy in grads)


@each
def test_grad_mode_is_the_closures_business_only(make):
    model, x, y = net()
    opt = make(model.parameters())
    for _ in range(7):
        with torch.no_grad():
            opt.step(closure_for(opt, model, x, y))
            assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


@each
@pytest.mark.parametrize("kind", ["float", "zero-dim", "one-element", "float32", "int"])
def test_what_a_closure_may_return(make, kind):
    model, x, y = net()
    opt = make(model.parameters())
    cast = {
        "float": float,
        "zero-dim": lambda v: v,
        "one-element": lambda v: v.reshape(1),
        "float32": lambda v: v.float(),
        "int": lambda v: int(1e6 * v),
    }[kind]
    plain = closure_for(opt, model, x, y)
    for _ in range(8):
        value = cast(plain().detach())
        assert opt.step(lambda: cast(plain().detach())) == value


def complex_net():
    generator = torch.Generator().manual_seed(3)
    w = torch.nn.Parameter(torch.randn(4, 3, generator=generator, dtype=torch.complex128))
    b = torch.nn.Parameter(torch.randn(4, generator=generator, dtype=torch.float64))
    x = torch.randn(3, generator=generator, dtype=torch.complex128)
    return w, b, x


@each
def test_complex_parameters_step_like_their_real_twins(make):
    w, b, x = complex_net()
    twin_w, twin_b = torch.nn.Parameter(torch.view_as_real(w.detach()).clone()), torch.nn.Parameter(b.detach().clone())
    opt, twin = make([w, b]), make([twin_w, twin_b])

    def closure_of(opt, weight, bias):
        def closure():
            opt.zero_grad()
            loss = (((weight() @ x).abs() + bias) ** 2 - 1).square().sum()
            loss.backward()
            return loss

        return closure

    for _ in range(9):
        opt.step(closure_of(opt, lambda: w, b))
        twin.step(closure_of(twin, lambda: torch.view_as_complex(twin_w), twin_b))
        torch.testing.assert_close(torch.view_as_real(w.detach()), twin_w.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(b.detach(), twin_b.detach(), rtol=1e-10, atol=1e-12)


def test_sparse_gradients_are_made_dense_for_the_second_phase():
    embedding = torch.nn.Embedding(5, 2, sparse=True).double()
    dense = copy.deepcopy(embedding)
    dense.sparse = False
    rows = torch.tensor([0, 2, 2, 4])
    make = lambda e: Fuse(e.parameters(), lr=0.1, switchover="step:3", first_order=optim.SGD)  # noqa: E731
    opt, twin = make(embedding), make(dense)
    for _ in range(8):
        for o, e in ((opt, embedding), (twin, dense)):

            def closure(o=o, e=e):
                o.zero_grad()
                loss = ((e(rows).sum(1) - 1) ** 2).sum()
                loss.backward()
                return loss

            o.step(closure)
        torch.testing.assert_close(embedding.weight, dense.weight)


def test_mixed_dtypes_share_a_vector_of_the_wider_type():
    a = torch.nn.Parameter(torch.full((3,), 2.0, dtype=torch.bfloat16))
    b = torch.nn.Parameter(torch.full((3,), 2.0, dtype=torch.float64))
    opt = LBFGS([a, b])

    def closure():
        opt.zero_grad()
        loss = (a.double() ** 2).sum() + 10 * (b**2).sum()
        loss.backward()
        return loss

    for _ in range(10):
        loss = opt.step(closure)
    assert loss < 1e-3
    assert (a.dtype, b.dtype) == (torch.bfloat16, torch.float64)


def test_without_closure_the_first_phase_works_from_gradients():
    paths = []
    for make in (lambda p: optim.Adam(p, lr=1e-2), lambda p: Fuse(p, lr=1e-2, switchover="gradnorm:1e-9:5")):
        model, x, y = net()
        opt = make(model.parameters())
        for _ in range(5):
            closure_for(opt, model, x, y)()
            assert opt.step() is None
        paths.append(flat(model))
    assert torch.equal(*paths)


@pytest.mark.parametrize("switchover", ["always", "theta:0.5", "losschange:1e-3"])
def test_without_closure_where_values_are_needed_it_says_what_to_do(switchover):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover=switchover)
    closure_for(opt, model, x, y)()
    before = flat(model)
    with pytest.raises(RuntimeError, match=r"closure.*GradScaler.*bfloat16"):
        opt.step()
    assert torch.equal(flat(model), before)


@each
def test_distributed_checkpoint_saves_and_loads_in_each_phase(make):
    from torch.distributed.checkpoint import state_dict as dcp

    for cut in (3, 7):
        model, x, y = net()
        opt = make(model.parameters())
        train(opt, model, x, y, cut)
        buffer = io.BytesIO()
        torch.save((model.state_dict(), dcp.get_optimizer_state_dict(model, opt)), buffer)
        buffer.seek(0)
        weights, state = torch.load(buffer, weights_only=True)
        path, _ = train(opt, model, x, y, 4, start=cut)
        twin_model, *_ = net()
        twin_model.load_state_dict(weights)
        twin = make(twin_model.parameters())
        twin.allocate()
        dcp.set_optimizer_state_dict(twin_model, twin, state)
        again, _ = train(twin, twin_model, x, y, 4, start=cut)
        assert all(torch.equal(a, b) for a, b in zip(path, again, strict=True))


@each
def test_a_flattened_distributed_checkpoint_says_that_it_lost_the_second_phase(make):
    """Of those torch restores only the names it finds in `optimizer.state`, where ours are not."""
    from torch.distributed.checkpoint import state_dict as dcp

    options = dcp.StateDictOptions(flatten_optimizer_state_dict=True)
    model, x, y = net()
    opt = make(model.parameters())
    train(opt, model, x, y, 7)
    state = dcp.get_optimizer_state_dict(model, opt, options=options)
    model.zero_grad()
    with pytest.warns(UserWarning, match="flatten_optimizer_state_dict"):
        dcp.set_optimizer_state_dict(model, make(model.parameters()), state, options=options)


@each
def test_distributed_checkpoint_initialises_without_counting_a_step(make):
    from torch.distributed.checkpoint import state_dict as dcp

    model, x, y = net()
    opt, before = make(model.parameters()), flat(model)
    dcp.get_optimizer_state_dict(model, opt)
    assert torch.equal(flat(model), before)
    plain_model, *_ = net()
    plain = make(plain_model.parameters())
    path, _ = train(opt, model, x, y, 9)
    other, _ = train(plain, plain_model, x, y, 9)
    assert all(torch.equal(a, b) for a, b in zip(path, other, strict=True))


def test_allocate_makes_the_names_that_a_run_will_save():
    model, x, y = net()
    for handover in ("pairs", "both"):
        make = lambda p: Fuse(groups_of(p), switchover="step:3", handover=handover, full_batch=True)  # noqa: B023, E731
        opt = make(model)
        train(opt, model, x, y, 8, full_batch=True)
        fresh = make(net()[0])
        fresh.allocate()
        own = {k for k in opt.state_dict()["state"][0] if k.startswith("fuse_")}
        assert own == {k for k in fresh.state_dict()["state"][0] if k.startswith("fuse_")}


@each
def test_printing_shows_the_groups(make):
    model, *_ = net()
    assert "lr" in repr(make(model.parameters()))


def test_fuse_pv_is_fuse_with_a_hard_rule():
    model, *_ = net()
    assert FusePV(model.parameters()).phase == "first_order"
    assert str(FusePV(model.parameters()).switchover) == str(Fuse(model.parameters()).switchover) == "auto"
    with pytest.raises(ValueError, match=r"switchover.*theta:0.5.*hard"):
        FusePV(model.parameters(), switchover="theta:0.5")


def test_the_optimizer_needs_torch_and_the_standard_library_only():
    script = """
import sys, torch
before = {name.partition(".")[0] for name in sys.modules}
import fuse_lib.optim
new = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
assert new == {"fuse_lib"}, new
"""
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ)


def test_reads_of_the_device():
    """Without a GPU: every way from a tensor to a Python number is counted."""
    counted = []

    class Count(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func.__name__ in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__"):
                counted.append(func.__name__)
            return func(*args, **(kwargs or {}))

    def reads(opt, model, x, y, steps):
        trials = 0
        closure = closure_for(opt, model, x, y)

        def quiet():
            nonlocal trials
            trials += 1
            with torch._C.DisableTorchFunction():
                return closure()

        counted.clear()
        with Count():
            for _ in range(steps):
                opt.step(quiet)
        return len(counted), trials

    model, x, y = net()
    bare, _ = reads(optim.Adam(model.parameters()), model, x, y, 10)
    ours, _ = reads(Fuse(model.parameters(), switchover="step:100"), model, x, y, 10)
    assert ours == bare
    reading, _ = reads(Fuse(model.parameters(), switchover="gradnorm:1e-9:5", check_every=5), model, x, y, 10)
    assert reading == bare + 2
    second = LBFGS(model.parameters(), history_size=4)
    train(second, model, x, y, 10)
    count, trials = reads(second, model, x, y, 10)
    # one read at the start, which is itself an evaluation, and one a trial; the direction's coefficients
    # and the slots are small host tensors and cost nothing on a device
    host = 4 * 10
    assert count <= trials + host
