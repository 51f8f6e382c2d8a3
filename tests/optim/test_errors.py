"""Bad input: the error names the argument, the value and what is allowed, and changes nothing."""

import inspect
import pydoc

import pytest
import torch
from torch import optim

from fuse_lib import LBFGS, Fuse, FusePV, switchover
from tests.optim.tools import flat, net, train

BAD = [
    ({"lr": -1.0}, "lr", "-1.0"),
    ({"lr": float("nan")}, "lr", "nan"),
    ({"lr": "fast"}, "lr", "fast"),
    ({"switchover": "sometimes"}, "switchover", "sometimes"),
    ({"switchover": "step:-1"}, "k", "-1"),
    ({"switchover": "gradnorm"}, "switchover", "gradnorm"),
    ({"switchover": "gradnorm:0"}, "zeta", "0"),
    ({"switchover": "gradnorm:1e-3:0"}, "window", "0"),
    ({"switchover": "losschange:-1"}, "sigma", "-1"),
    ({"switchover": "theta:1.5"}, "value", "1.5"),
    ({"switchover": "theta:linear:0"}, "steps", "0"),
    ({"switchover": 500}, "switchover", "500"),
    ({"first_order": "adam"}, "first_order", "adam"),
    ({"first_order": optim.LBFGS}, "first_order", "LBFGS"),
    ({"first_order_args": {"beta": 0.9}}, "first_order_args", "beta"),
    ({"handover": "all"}, "handover", "all"),
    ({"handover": "metric", "first_order": optim.SGD}, "handover", "metric"),
    ({"handover": "metric", "switchover": "always"}, "handover", "metric"),
    ({"history_size": 0}, "history_size", "0"),
    ({"history_size": 2.5}, "history_size", "2.5"),
    ({"line_search": "armijo"}, "line_search", "armijo"),
    ({"inner_steps": 0}, "inner_steps", "0"),
    ({"max_evals": 1}, "max_evals", "1"),
    ({"full_batch": "yes"}, "full_batch", "yes"),
    ({"skip_nonfinite": 1}, "skip_nonfinite", "1"),
    ({"check_every": 0}, "check_every", "0"),
    ({"history_dtype": "bfloat16"}, "history_dtype", "bfloat16"),
    ({"history_dtype": torch.int8}, "history_dtype", "int8"),
    ({"process_group": "world"}, "process_group", "None"),
]


@pytest.mark.parametrize(("options", "name", "value"), BAD, ids=[str(b[0]) for b in BAD])
def test_the_constructor_names_argument_value_and_what_is_allowed(options, name, value):
    model, *_ = net()
    before = flat(model)
    with pytest.raises((ValueError, TypeError)) as caught:
        Fuse(model.parameters(), **options)
    message = str(caught.value)
    assert name in message
    assert value in message
    assert "allowed" in message
    assert torch.equal(flat(model), before)


@pytest.mark.parametrize(
    ("options", "name"), [({"lr": -1}, "lr"), ({"weight_decay": -1.0}, "weight_decay"), ({"max_evals": 0}, "max_evals")]
)
def test_lbfgs_too(options, name):
    with pytest.raises(ValueError, match=rf"{name}: got .*allowed"):
        LBFGS(net()[0].parameters(), **options)


@pytest.mark.parametrize("lr", [float("nan"), float("inf"), "fast"])
@pytest.mark.parametrize(("cls", "steps"), [(LBFGS, 0), (LBFGS, 3), (FusePV, 0)])  # FusePV: at its switch
def test_a_groups_lr_that_is_no_number_is_named_and_moves_nothing(cls, lr, steps):
    """At the switch it froze the group for the whole phase, and in each search of LBFGS it said "converged"."""
    model, x, y = net()
    opt = cls(model.parameters(), **({"switchover": "always"} if cls is FusePV else {}))
    train(opt, model, x, y, steps, full_batch=True)
    before = flat(model)
    opt.param_groups[0]["lr"] = lr
    with pytest.raises(ValueError, match=r"lr: got .*allowed"):
        train(opt, model, x, y, 1)
    assert torch.equal(flat(model), before)
    opt.param_groups[0]["lr"] = 1.0
    _, losses = train(opt, model, x, y, 5, full_batch=True)
    assert losses[-1] < losses[0]


def test_a_negative_lr_of_lbfgs_is_none():
    model, x, y = net()
    opt = LBFGS(model.parameters())
    opt.param_groups[0]["lr"] = -1e-18
    train(opt, model, x, y, 1)
    assert opt.last_step.stop_reason == "lr_zero"


def test_parameters_on_two_devices_are_refused_when_the_optimizer_is_made():
    params = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2, device="meta"))]
    with pytest.raises(ValueError, match=r"params: .*cpu.*meta.*allowed"):
        FusePV(params)
    Fuse(params, switchover="never")  # the first phase alone does not mind


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
@pytest.mark.parametrize("cls", [FusePV, LBFGS])
def test_parameters_of_integers_are_refused_when_the_optimizer_is_made(cls, dtype):
    """Quantised layers have them, frozen."""
    params = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(2).to(dtype), requires_grad=False)]
    with pytest.raises(ValueError, match=rf"params: got one of {dtype}; allowed"):
        cls(params)


def test_groups_that_differ_in_maximize_are_refused():
    model, *_ = net()
    groups = [{"params": model[0].parameters(), "maximize": True}, {"params": model[2].parameters()}]
    with pytest.raises(ValueError, match=r"maximize: .*allowed"):
        FusePV(groups)


@pytest.mark.parametrize(
    ("value", "error"), [(None, TypeError), ("0.5", TypeError), (torch.ones(2), ValueError), (1j, TypeError)], ids=str
)
@pytest.mark.parametrize("switchover", ["always", "theta:0.5", "gradnorm:1e-3"])
def test_a_closure_that_returns_no_loss_is_named(switchover, value, error):
    model, x, y = net()
    opt = Fuse(model.parameters(), switchover=switchover)
    before, phase = flat(model), opt.phase

    def closure():
        opt.zero_grad()
        (model(x) - y).square().mean().backward()
        return value

    with pytest.raises(error, match=r"closure: it returned .*allowed"):
        opt.step(closure)
    assert torch.equal(flat(model), before)
    assert (opt.phase, opt.last_step) == (phase, None) or opt.last_step.phase == "first_order"
    train(opt, model, x, y, 3)


@pytest.mark.parametrize("theta", [1.5, -0.1, float("nan"), "half"])
def test_a_rule_that_answers_nonsense_is_named(theta):
    from fuse_lib.switchover import Rule

    class Nonsense(Rule):
        def theta(self, seen, memory):
            return theta

    model, x, y = net()
    opt = Fuse(model.parameters(), switchover=Nonsense())
    with pytest.raises(ValueError, match=r"switchover: .*θ = .*allowed"):
        train(opt, model, x, y, 1)


@pytest.mark.parametrize(("cls", "hint"), [(Fuse, True), (FusePV, True), (LBFGS, False)])
@pytest.mark.parametrize("unknown", [{"betas": (0.9, 0.99)}, {"betas": (0.9, 0.99), "foreach": True}], ids=str)
def test_an_unknown_keyword_is_named_with_the_known_ones_and_where_it_belongs(cls, hint, unknown):
    with pytest.raises(TypeError, match=r"^betas.*: not an argument of .*allowed is any of params, lr, ") as caught:
        cls(net()[0].parameters(), history_size=3, **unknown)
    message = str(caught.value)
    assert message.startswith(f"{', '.join(unknown)}: not an argument of {cls.__name__}")
    assert "history_size" in message
    assert message.endswith(f"first_order_args={unknown}") == hint


def test_the_signatures_are_explicit_and_fusepvs_is_that_of_fuse():
    known = inspect.signature(Fuse)
    assert inspect.signature(FusePV) == known
    assert {"switchover", "history_size", "process_group"} <= set(known.parameters)
    kinds = {p.kind for cls in (Fuse, LBFGS) for p in inspect.signature(cls).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert "switchover: 'str | Rule' = 'auto'" in pydoc.plain(pydoc.render_doc(FusePV))


@pytest.mark.parametrize("reads", [("loss", "los"), ("grad_norm",), "loss"], ids=str)
@pytest.mark.parametrize("take", [lambda r: FusePV([torch.zeros(2)], switchover=r),
                                  lambda r: Fuse([torch.zeros(2)], switchover=r),
                                  lambda r: switchover.AnyOf(switchover.AtStep(3), r),
                                  lambda r: switchover.AllOf(switchover.AnyOf(r))],
                         ids=["FusePV", "Fuse", "AnyOf", "AllOf"])  # fmt: skip
def test_a_rule_that_reads_what_no_observation_has_is_named_when_it_is_taken(take, reads):
    class Own(switchover.Criterion):
        def met(self, seen, memory):
            return False

        def __str__(self):
            return "Own()"

    Own.reads = reads
    wrong = reads if isinstance(reads, str) else reads[-1]
    with pytest.raises(ValueError, match=rf"^switchover: Own\(\) reads '{wrong}'; allowed is .*'loss'"):
        take(Own())
