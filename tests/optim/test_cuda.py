"""The statements of the other files, on a GPU."""

import pytest
import torch
from torch import optim

from fuse_lib import LBFGS, Fuse
from tests.optim.tools import closure_for, flat, groups_of, net, train

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.mark.parametrize("args", [{"foreach": True}, {"fused": True}, {"capturable": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_never_is_the_bare_optimizer_bit_for_bit(args, dtype):
    paths = []
    for make in (
        lambda g: optim.Adam(g, lr=1e-2, **args),
        lambda g: Fuse(g, lr=1e-2, switchover="never", handover="both", first_order_args=args),
    ):
        model, x, y = net(dtype, device="cuda")
        paths.append(torch.stack(train(make(groups_of(model)), model, x, y, 200)[0]))
    assert torch.equal(*paths)


def test_the_first_phase_does_not_synchronise_under_a_step_rule():
    model, x, y = net(torch.float32, device="cuda")
    opt = Fuse(model.parameters(), switchover="step:1000", handover="both")
    train(opt, model, x, y, 3)
    closure = closure_for(opt, model, x, y)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            opt.step(closure)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("full_batch", [False, True])
def test_the_second_phase_reads_once_a_trial_and_once_more(full_batch):
    model, x, y = net(torch.float32, device="cuda")
    opt = LBFGS(model.parameters(), full_batch=full_batch)
    train(opt, model, x, y, 12, full_batch=True)
    trials, syncs = 0, 0
    reads = opt._second.vectors.read

    def counting(*args):
        nonlocal syncs
        syncs += 1
        return reads(*args)

    opt._second.vectors.read = counting
    for _ in range(10):
        opt.step(closure_for(opt, model, x, y))
        trials += opt.last_step.evals - (not full_batch)
    assert syncs <= trials + 10


@pytest.mark.parametrize("handover", ["none", "pairs", "metric", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_whole_run_agrees_with_the_cpu(handover, dtype):
    paths = []
    for device in ("cpu", "cuda"):
        model, x, y = net(dtype, device=device)
        opt = Fuse(model.parameters(), lr=1e-2, switchover="step:6", handover=handover, full_batch=True)
        train(opt, model, x, y, 12, full_batch=True)
        paths.append(flat(model).cpu())
    tolerance = 1e-6 if dtype == torch.float64 else 1e-2
    torch.testing.assert_close(*paths, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"history_dtype": torch.bfloat16}, {"full_batch": True}], ids=str)
def test_resume_is_bit_for_bit(options, tmp_path):
    model, x, y = net(torch.float32, device="cuda")
    make = lambda p: Fuse(p, lr=1e-2, switchover="step:4", handover="both", **options)  # noqa: E731
    opt = make(model.parameters())
    for cut in range(10):
        torch.save((model.state_dict(), opt.state_dict()), tmp_path / "run.pt")
        weights, state = torch.load(tmp_path / "run.pt", weights_only=True)
        twin_model, *_ = net(torch.float32, device="cuda")
        twin_model.load_state_dict(weights)
        twin = make(twin_model.parameters())
        twin.load_state_dict(state)
        train(opt, model, x, y, 1, start=cut, full_batch=True)
        train(twin, twin_model, x, y, 1, start=cut, full_batch=True)
        assert torch.equal(flat(model), flat(twin_model))


def test_tensor_float_32_does_not_reach_the_inner_products():
    from fuse_lib.optim.history import History

    torch.manual_seed(0)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        history = History(20, 10_000, torch.float32, torch.device("cuda"))
        for _ in range(20):
            s, y, zero = torch.randn(10_000, device="cuda"), torch.randn(10_000, device="cuda"), torch.zeros(10_000)
            history.stage((s, zero.to(s)), (y, zero.to(y)))
            history.keep_unmeasured()
        v = torch.randn(10_000, device="cuda")
        error = (history.times(v)[::2].double() - history.S[:20].double() @ v.double()).abs().max()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert error < 1e-3  # TF32 has 10 bits of mantissa and would give about 0.05
