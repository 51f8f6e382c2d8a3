"""A saved run goes on bit for bit, in a new process too; so do a copy and a pickle."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import optim

from fuse_lib import LBFGS, Fuse
from fuse_lib.switchover import Always, AnyOf, Never
from tests.optim.tools import closure_for, flat, net, train

SWITCH = 6
CASES = {
    f"{rule}-{handover}{'-full' if full_batch else ''}": {
        "switchover": rule,
        "handover": handover,
        "full_batch": full_batch,
        "history_size": 4,
    }
    for rule in (f"step:{SWITCH}", "gradnorm:1e3:3", "theta:linear:8", "theta:aligned")
    for handover in ("none", "pairs", "metric", "both")
    for full_batch in (False, True)
    if not (rule == "theta:aligned" and handover == "metric")
}
CASES |= {
    "bfloat16": {"switchover": f"step:{SWITCH}", "history_dtype": torch.bfloat16, "handover": "both"},
    "inner-steps": {"switchover": f"step:{SWITCH}", "inner_steps": 3, "history_size": 3},
    "check-every": {"switchover": "gradnorm:1e3:3", "check_every": 4, "history_size": 3},
    "any-of": {"switchover": "any", "history_size": 3},
    "damped": {"switchover": f"step:{SWITCH}", "damped": True},
    "adaptive": {"switchover": f"step:{SWITCH}", "scaling": "adaptive", "full_batch": True},
    "rmsprop": {"switchover": f"step:{SWITCH}", "first_order": optim.RMSprop, "handover": "metric"},
    "sgd": {"switchover": f"step:{SWITCH}", "first_order": optim.SGD, "first_order_args": {"momentum": 0.9}},
}
STEPS = 16


def make(name, params):
    options = dict(CASES[name])
    if options["switchover"] == "any":
        from fuse_lib.switchover import AnyOf, GradientNorm, LossChange

        options["switchover"] = AnyOf(GradientNorm(1e-9, 3), LossChange(0.5, 2))
    return Fuse(params, lr=1e-2, **options)


def is_full(name):
    return CASES[name].get("full_batch", False)


def save(path, model, opt, at):
    torch.save({"model": model.state_dict(), "opt": opt.state_dict(), "at": at}, path)


def resume(name, path, steps):
    """Load into fresh objects and go on; the parameters after each step."""
    saved = torch.load(path, weights_only=True)
    model, x, y = net()
    model.load_state_dict(saved["model"])
    opt = make(name, model.parameters())
    opt.load_state_dict(saved["opt"])
    after, _ = train(opt, model, x, y, steps, start=saved["at"], full_batch=is_full(name))
    return after


@pytest.mark.parametrize("name", CASES)
def test_resume_at_any_moment_is_bit_for_bit(name, tmp_path):
    model, x, y = net()
    opt = make(name, model.parameters())
    path = []
    for k in range(STEPS):
        save(tmp_path / f"{k}.pt", model, opt, k)
        path += train(opt, model, x, y, 1, start=k, full_batch=is_full(name))[0]
    assert opt.phase != "first_order"
    for k in range(STEPS):
        steps = min(4, STEPS - k)
        for ours, theirs in zip(resume(name, tmp_path / f"{k}.pt", steps), path[k : k + steps], strict=True):
            assert torch.equal(ours, theirs), f"saved before step {k + 1}"


@pytest.mark.parametrize("name", ["step:6-both", "theta:linear:8-both-full", "bfloat16"])
def test_resume_in_a_new_process(name, tmp_path):
    model, x, y = net()
    opt = make(name, model.parameters())
    for cut in (3, SWITCH, 10):  # before, at and after the switch
        model, x, y = net()
        opt = make(name, model.parameters())
        train(opt, model, x, y, cut, full_batch=is_full(name))
        save(tmp_path / f"{cut}.pt", model, opt, cut)
        path, _ = train(opt, model, x, y, 5, start=cut, full_batch=is_full(name))
        torch.save(path, tmp_path / f"expected{cut}.pt")
    script = f"""
import torch
from pathlib import Path
from tests.optim.test_resume import resume
torch.set_num_threads({torch.get_num_threads()})
for cut in (3, {SWITCH}, 10):
    path = Path({str(tmp_path)!r})
    for a, b in zip(resume({name!r}, path / f"{{cut}}.pt", 5), torch.load(path / f"expected{{cut}}.pt"), strict=True):
        assert torch.equal(a, b), cut
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@pytest.mark.parametrize("name", ["step:6-both", "step:6-pairs-full", "theta:linear:8-pairs", "check-every"])
def test_copies_go_on_alike_and_apart(name, how):
    for cut in (3, 8, 12):
        model, x, y = net()
        opt = make(name, model.parameters())
        train(opt, model, x, y, cut, full_batch=is_full(name))
        pair = (model, opt)
        twin_model, twin = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
        ours, _ = train(opt, model, x, y, 4, start=cut, full_batch=is_full(name))
        theirs, _ = train(twin, twin_model, x, y, 4, start=cut, full_batch=is_full(name))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["step:6-both", "theta:linear:8-pairs-full", "check-every"])
def test_looking_changes_nothing(name):
    """state_dict(), the report and repr() read from the device; the run is the same with and without."""
    model, x, y = net()
    twin_model, *_ = net()
    opt, twin = make(name, model.parameters()), make(name, twin_model.parameters())
    for k in range(STEPS):
        opt.state_dict()
        repr(opt.last_step)
        repr(opt)
        train(opt, model, x, y, 1, start=k, full_batch=is_full(name))
        train(twin, twin_model, x, y, 1, start=k, full_batch=is_full(name))
        assert torch.equal(flat(model), flat(twin_model))


@pytest.mark.parametrize("when", ["saved", "set after loading"])
def test_the_weight_decay_in_the_groups_is_the_one_that_acts_after_loading(when):
    model, x, y = net()
    opt = LBFGS(model.parameters(), weight_decay=0.1)
    train(opt, model, x, y, 3)
    twin_model = copy.deepcopy(model)
    twin = LBFGS(twin_model.parameters(), weight_decay=0.0 if when == "saved" else 0.1)
    twin.load_state_dict(opt.state_dict())
    if when != "saved":
        opt.param_groups[0]["weight_decay"] = twin.param_groups[0]["weight_decay"] = 3.0
    train(opt, model, x, y, 2, start=3)
    train(twin, twin_model, x, y, 2, start=3)
    assert torch.equal(flat(model), flat(twin_model))


@pytest.mark.parametrize("when", ["before saving", "before loading", "after loading"])
@pytest.mark.parametrize("what", ["freeze", "thaw", "weight_decay"])
def test_a_known_point_of_another_function_is_not_reused_after_loading(what, when):
    """full_batch: what was frozen, thawed or given weight decay around the checkpoint is a new function."""
    if what == "weight_decay" and when == "before loading":
        return  # what the checkpoint holds wins then

    def change(opt, model):
        if what == "weight_decay":
            opt.param_groups[0]["weight_decay"] = 1.0
        else:
            model[0].weight.requires_grad_(what == "thaw")
            model[0].weight.grad = None

    model, x, y = net()
    model[0].weight.requires_grad_(what != "thaw")
    opt = LBFGS(model.parameters(), full_batch=True)
    train(opt, model, x, y, 5, full_batch=True)
    twin_model = copy.deepcopy(model)
    twin = LBFGS(twin_model.parameters(), full_batch=True)
    if when == "before saving":
        change(opt, model)
        change(twin, twin_model)
    state = opt.state_dict()
    if when == "before loading":
        change(twin, twin_model)
    twin.load_state_dict(state)
    if when != "before saving":
        change(opt, model)
    if when == "after loading":
        change(twin, twin_model)
    before = twin_model[0].weight.detach().clone()
    for o, m in ((opt, model), (twin, twin_model)):
        train(o, m, x, y, 1, start=5, full_batch=True)
        assert o.last_step.evals >= 2, "the start is evaluated anew"
    assert torch.equal(flat(model), flat(twin_model))
    assert torch.equal(twin_model[0].weight, before) == (what == "freeze")


def test_the_metric_is_saved_before_there_is_any_pair():
    """The first call of the second phase fixes it, and may find a loss of NaN."""
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover="step:2", handover="metric")
    train(opt, model, x, y, 2)
    train(opt, model, x * float("nan"), y, 1)
    assert (opt.phase, opt.last_step.stop_reason) == ("second_order", "non_finite")
    twin_model = copy.deepcopy(model)
    twin = Fuse(twin_model.parameters(), switchover="step:2", handover="metric")
    twin.load_state_dict(opt.state_dict())
    train(opt, model, x, y, 2)
    train(twin, twin_model, x, y, 2)
    assert torch.equal(flat(model), flat(twin_model))


@pytest.mark.parametrize("full_batch", [False, True])
def test_failures_and_the_kept_promise_are_saved_without_any_pair(full_batch):
    model, x, y = net()
    plain = closure_for(torch.optim.SGD(model.parameters()), model, x, y)

    def closure():
        loss = plain()
        for p in model.parameters():
            p.grad.neg_()  # so that no search finds anything
        return loss

    opt = LBFGS(model.parameters(), full_batch=full_batch)
    opt.step(closure)
    assert opt.last_step.step_length == 0
    twin = LBFGS(model.parameters(), full_batch=full_batch)
    twin.load_state_dict(opt.state_dict())
    reports = []
    for o in (opt, twin):
        o.step(closure)
        reports.append(o.last_step.as_dict())
    assert reports[0] == reports[1]
    assert reports[0]["stop_reason"] == "no_progress"


def test_who_took_part_in_the_last_step_is_saved():
    model, x, y = net()
    opt = LBFGS(model.parameters(), full_batch=True)
    for _ in range(2):
        opt.step(lambda: (model(x) - y).square().mean())  # no backward
    twin = LBFGS(model.parameters(), full_batch=True)
    twin.load_state_dict(opt.state_dict())
    twin.step(lambda: (model(x) - y).square().mean())
    assert twin.last_step.stop_reason == "no_gradient"


def test_dtypes_survive_loading():
    model, x, y = net(torch.float32)
    opt = LBFGS(model.parameters(), history_dtype=torch.bfloat16, history_size=3)
    train(opt, model, x, y, 5)
    state = opt.state_dict()["state"]
    twin = LBFGS(net(torch.float32)[0].parameters(), history_dtype=torch.bfloat16, history_size=3)
    twin.load_state_dict(opt.state_dict())
    again = twin.state_dict()["state"]
    assert state[0]["fuse_S"].dtype == again[0]["fuse_S"].dtype == torch.bfloat16
    assert state[0]["fuse_sy"].dtype == again[0]["fuse_sy"].dtype == torch.float64
    assert state[1]["fuse_S"].shape == (4, *list(model.parameters())[1].shape)
    for index in state:
        assert list(state[index]) == list(again[index])
        for key, value in state[index].items():
            torch.testing.assert_close(value, again[index][key], rtol=0, atol=0, equal_nan=True)


def test_everything_saved_is_a_tensor_or_a_number_under_a_parameter():
    model, x, y = net()
    opt = make("any-of", model.parameters())
    train(opt, model, x, y, 9)
    for index, entry in opt.state_dict()["state"].items():
        assert isinstance(index, int)
        for key, value in entry.items():
            assert isinstance(value, torch.Tensor | int | float), key


@pytest.mark.parametrize("saved", ["never", "step:9", "theta:0.5"])
@pytest.mark.parametrize("rule", ["always", "step:0", AnyOf(Always(), Never())], ids=str)
def test_a_rule_without_a_first_phase_has_none_after_loading_another_ones_state_either(saved, rule):
    """After a run of Adam alone the second phase is to go on from there."""
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover=saved)
    train(opt, model, x, y, 3)
    twin = Fuse(model.parameters(), switchover=rule)
    with pytest.warns(UserWarning, match="stays in force"):
        twin.load_state_dict(opt.state_dict())
    assert twin.phase == "second_order"
    train(twin, model, x, y, 2)
    assert (twin.last_step.phase, twin.phase) == ("second_order", "second_order")


def test_the_constructors_rule_wins_and_the_latch_is_kept():
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover="step:2")
    train(opt, model, x, y, 3)
    twin = Fuse(model.parameters(), switchover="step:100")
    with pytest.warns(UserWarning, match=r"'step:2'.*'step:100'"):
        twin.load_state_dict(opt.state_dict())
    assert (str(twin.switchover), twin.phase) == ("step:100", "second_order")
    early = Fuse(model.parameters(), switchover="step:2")
    train(early, model, x, y, 1)
    twin = Fuse(model.parameters(), switchover="step:100")
    with pytest.warns(UserWarning, match=r"step:100"):
        twin.load_state_dict(early.state_dict())
    assert twin.phase == "first_order"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"first_order": optim.SGD}, r"first_order=SGD.*saved with first_order=Adam"),
        ({"history_size": 7}, r"history_size=7.*saved with history_size=10$"),
    ],
    ids=["first_order", "history_size"],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(options, match):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover="step:2")
    train(opt, model, x, y, 5)
    twin = Fuse(net()[0].parameters(), **({"switchover": "step:2"} | options))
    before = twin.state_dict()
    with pytest.raises(ValueError, match=match):
        twin.load_state_dict(opt.state_dict())
    assert twin.state_dict()["state"].keys() == before["state"].keys()
    assert twin.phase == "first_order"


def test_a_state_for_other_parameters_is_refused_and_changes_nothing():
    model, x, y = net()
    opt = LBFGS(model.parameters())
    train(opt, model, x, y, 3)
    twin = LBFGS(list(net()[0].parameters())[:3])
    with pytest.raises(ValueError, match="parameter"):
        twin.load_state_dict(opt.state_dict())
    assert twin.last_step is None
