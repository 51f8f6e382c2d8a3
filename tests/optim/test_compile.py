"""FusePV over the switch on a model that torch.compile has made anew: the same trajectory, to rounding."""

import shutil

import pytest
import torch

from fuse_lib import FusePV
from tests.optim.tools import closure_for, flat, minibatches, net

SWITCH, STEPS = 6, 14
COMPILER = shutil.which("g++") or shutil.which("clang++")


def run(backend, full_batch):
    """The parameters after each step, and the reports."""
    model, x, y = net()
    opt = FusePV(model.parameters(), lr=1e-2, switchover=f"step:{SWITCH}", full_batch=full_batch)
    called = model if backend is None else torch.compile(model, backend=backend)
    path, reports = [], []
    for k in range(STEPS):
        second = full_batch or opt.phase == "second_order"
        opt.step(closure_for(opt, called, *((x, y) if second else minibatches(x, y, k))))
        path.append(flat(model))
        reports.append(opt.last_step.as_dict())
    return torch.stack(path), reports


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        "aot_eager",
        pytest.param(
            "inductor",
            marks=[pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="inductor needs a C++ compiler")],
        ),
    ],
)
def test_a_compiled_model_goes_the_same_way(backend, full_batch, one_thread):
    torch.compiler.reset()
    plain, expected = run(None, full_batch)
    compiled, reports = run(backend, full_batch)
    torch.testing.assert_close(compiled, plain, rtol=1e-8, atol=1e-10)
    assert not torch.equal(plain[SWITCH], plain[-1])
    for ours, theirs in zip(reports, expected, strict=True):
        assert (ours["phase"], ours["evals"], ours["pair"], ours["stop_reason"]) == (
            theirs["phase"], theirs["evals"], theirs["pair"], theirs["stop_reason"])  # fmt: skip
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-8)


def test_a_closure_that_is_compiled_itself(one_thread):
    """Forward and loss in one graph, backward outside of it."""
    torch.compiler.reset()
    paths = []
    for compiled in (False, True):
        model, x, y = net()
        opt = FusePV(model.parameters(), lr=1e-2, switchover=f"step:{SWITCH}", full_batch=True)

        def loss_of(rows, targets, model=model):
            return (model(rows) - targets).square().mean()

        loss = torch.compile(loss_of, backend="aot_eager") if compiled else loss_of

        def closure(opt=opt, loss=loss, x=x, y=y):
            opt.zero_grad()
            value = loss(x, y)
            value.backward()
            return value

        for _ in range(STEPS):
            opt.step(closure)
        paths.append(flat(model))
    torch.testing.assert_close(*paths, rtol=1e-8, atol=1e-10)
