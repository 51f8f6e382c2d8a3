"""full_batch=True is a promise. What breaks it inside one step or from one step to the next is noticed and named."""

import copy

import pytest
import torch
from torch import nn

from fuse_lib import LBFGS, FusePV
from tests.optim.tools import net

NAMED = r"full_batch=True.*dropout.*batch norm.*resampling"


def broken(how):
    """(model, the loss of a call) that is another function each time."""
    torch.manual_seed(0)
    model, x, y = net()
    if how == "dropout":
        model.insert(2, nn.Dropout(0.5))
    elif how == "batch norm":
        # Its running statistics move with each call. While it trains it does not use them, so it has to be mixed in.
        model.insert(1, nn.BatchNorm1d(8, dtype=torch.float64))

        def loss():
            trained = (model(x) - y).square().mean()
            model.eval()
            evaluated = (model(x) - y).square().mean()
            model.train()
            return trained + evaluated

        return model, loss
    elif how == "instance noise":
        return model, lambda: (model(x + 0.1 * torch.randn_like(x)) - y).square().mean()

    def loss():
        rows = torch.randperm(len(x))[:16] if how == "resampling" else torch.arange(len(x))
        return (model(x[rows]) - y[rows]).square().mean()

    return model, loss


def closure_of(opt, loss):
    def closure():
        opt.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("after", [0, 4], ids=["from the start", "after a switch"])
@pytest.mark.parametrize("how", ["dropout", "batch norm", "resampling", "instance noise"])
def test_a_function_that_changes_within_a_step_is_noticed_and_nothing_moves(how, after):
    model, loss = broken(how)
    if after:
        opt = FusePV(model.parameters(), lr=1e-3, switchover=f"step:{after}", full_batch=True)
    else:
        opt = LBFGS(model.parameters(), full_batch=True)
    for _ in range(after):
        opt.step(closure_of(opt, loss))
    before = copy.deepcopy(list(model.parameters()))
    with pytest.raises(RuntimeError, match=NAMED):
        opt.step(closure_of(opt, loss))
    assert all(map(torch.equal, model.parameters(), before))


@pytest.mark.parametrize("how", ["dropout", "resampling"])
def test_without_the_promise_such_functions_are_allowed(how):
    model, loss = broken(how)
    opt = LBFGS(model.parameters())
    for _ in range(5):
        opt.step(closure_of(opt, loss))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_batch_norm_in_training_is_the_same_function_of_one_batch():
    """Only the running statistics move, and the loss does not depend on them."""
    torch.manual_seed(0)
    model, x, y = net()
    model.insert(1, nn.BatchNorm1d(8, dtype=torch.float64))
    opt = LBFGS(model.parameters(), full_batch=True)
    losses = [opt.step(closure_of(opt, lambda: (model(x) - y).square().mean())).item() for _ in range(20)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("dropout", [True, False])
def test_a_function_that_changes_late_is_noticed_by_the_first_search_that_finds_nothing(dropout):
    """model.train() in mid-run, or new collocation points every few steps."""
    torch.manual_seed(0)
    model, x, y = net()
    model.insert(2, nn.Dropout(0.5))
    model.eval()
    opt = LBFGS(model.parameters(), full_batch=True)

    def loss():
        rows = x if dropout else shifted
        return (model(rows) - y).square().mean()

    shifted = x
    with pytest.raises(RuntimeError, match=NAMED):  # noqa: PT012
        for k in range(60):
            if k >= 5:
                model.train(dropout)
                shifted = x + 0.3 * torch.randn(x.shape, dtype=x.dtype)
            opt.step(closure_of(opt, loss))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("after", [0, 4], ids=["from the start", "after a switch"])
def test_gradients_that_are_not_cleared_are_named(after):
    """The loss is the same, the gradient is that of all calls so far."""
    model, x, y = net()
    opt = FusePV(model.parameters(), lr=1e-3, switchover=f"step:{after}", full_batch=True)

    def closure():
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    for _ in range(after):
        opt.step(closure)
    with pytest.raises(RuntimeError, match=r"full_batch=True.*the same loss .* other gradients.*clear them"):
        opt.step(closure)


def test_nearly_the_same_losses_with_other_gradients_are_both_named():
    """Such as a term that is next to nothing but steep; that the gradients were not cleared is no guess then."""
    x, calls = torch.nn.Parameter(torch.ones(2, dtype=torch.float64)), []
    opt = LBFGS([x], full_batch=True)

    def closure():
        opt.zero_grad()
        calls.append(1.0 + 1e-14 * len(calls))
        loss = x.square().sum()
        loss.backward()
        x.grad *= len(calls)
        return loss * calls[-1]

    with pytest.raises(
        RuntimeError, match=r"nearly the same losses 2\.0 and 2\.00000\d+, but other gradients"
    ) as caught:
        opt.step(closure)
    assert "clear" not in str(caught.value)


@pytest.mark.parametrize("special", [0.0, float("inf")])
@pytest.mark.parametrize("d", [7, 20_001])
def test_a_parameter_that_was_moved_by_its_last_bit_is_noticed(special, d):
    x = torch.nn.Parameter(torch.linspace(1.0, 2.0, d))
    x.data[0] = special  # it has no part in the loss

    def closure():
        opt.zero_grad()
        loss = ((x[1:] - 3.0) ** 4).sum()
        loss.backward()
        return loss

    opt = LBFGS([x], full_batch=True)
    for _ in range(3):
        opt.step(closure)
    vectors, known = opt._second.vectors, opt._second.known
    assert vectors.moved(known.x) is False
    x.data[-1] = torch.nextafter(x.data[-1], torch.tensor(9.0))
    assert vectors.moved(known.x) is True
