"""Several processes decide alike, and do what one process does on the whole batch."""

import re
import warnings

import pytest
import torch

from fuse_lib import Fuse
from fuse_lib.optim.processes import Processes
from tests.optim import ranks
from tests.optim.tools import closure_for, flat, net

pytestmark = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
OPTIONS = {
    "pv-pairs": {"switchover": "step:10"},
    "pv-both-full": {"switchover": "step:10", "handover": "both", "full_batch": True},
    "rule": {"switchover": "gradnorm:1e3:3", "history_size": 4},
    "blend": {"switchover": "theta:linear:10"},
    "auto": {"switchover": "auto", "full_batch": True},
}


def one_process(options, steps, make=net):
    model, x, y = make()
    opt = Fuse(model.parameters(), lr=1e-2, **options)
    path = []
    for _ in range(steps):
        opt.step(closure_for(opt, model, x, y))
        path.append(flat(model))
    return torch.stack(path), opt


def without_unasked_losses(report):
    return {k: v for k, v in report.items() if not (report["phase"] == "first_order" and k.startswith("loss"))}


@pytest.mark.parametrize(
    ("name", "count"), [("pv-pairs", 2), ("pv-both-full", 2), ("rule", 2), ("blend", 2), ("pv-pairs", 4), ("auto", 2)]
)
def test_ddp_with_local_losses_is_one_process_on_the_whole_batch(name, count):
    paths, reports = zip(*ranks.on_ranks(ranks.ddp, count, OPTIONS[name], 40), strict=True)
    for path, report in zip(paths[1:], reports[1:], strict=True):
        assert torch.equal(path, paths[0])
        for ours, theirs in zip(report, reports[0], strict=True):
            assert str(without_unasked_losses(ours)) == str(without_unasked_losses(theirs))
    alone, _ = one_process(OPTIONS[name], 40)
    torch.testing.assert_close(paths[0][-1], alone[-1], rtol=1e-6, atol=1e-6)


def test_a_rank_whose_closure_yields_nan_makes_all_reject_the_trial():
    (path_0, evals_0), (path_1, evals_1) = ranks.on_ranks(ranks.ddp_with_a_nan, 2)
    assert torch.equal(path_0, path_1)
    assert evals_0 == evals_1
    assert max(evals_0) >= 3  # the rejected trial and its shorter successor
    assert path_0.isfinite().all()


SHARDED = {
    "even": (2, (8,), {"switchover": "step:8"}),
    "uneven": (2, (7, 3), {"switchover": "step:8", "handover": "both", "full_batch": True}),
    "empty": (4, (3,), {"switchover": "step:8", "first_order_args": {"weight_decay": 0.01}}),
    "blend": (2, (7,), {"switchover": "theta:linear:10"}),
    "auto": (2, (7, 3), {"switchover": "auto", "full_batch": True}),
}


@pytest.mark.parametrize("name", SHARDED)
def test_fsdp2_follows_the_unsharded_path_with_a_sharded_history(name):
    count, widths, options = SHARDED[name]
    results = ranks.on_ranks(ranks.sharded, count, options, 25, widths)
    alone, opt = one_process(options, 25, make=lambda: ranks.wide_net(widths))
    for path, _, _ in results:
        assert torch.equal(path, results[0][0])
        torch.testing.assert_close(path, alone, rtol=1e-6, atol=1e-8)
    assert sum(sizes[1] for _, sizes, _ in results) == opt._second.history.numel


@pytest.mark.parametrize(("before", "after", "at"), [(2, 4, 14), (4, 2, 5), (2, 1, 14)])
def test_a_distributed_checkpoint_resumes_on_another_number_of_ranks(before, after, at, tmp_path):
    options, widths = {"switchover": "step:8", "handover": "both"}, (7, 3)
    whole = ranks.on_ranks(ranks.sharded, before, options, at + 8, widths)[0][0]
    ranks.on_ranks(ranks.sharded, before, options, at, widths, None, str(tmp_path / "checkpoint"))
    resumed = ranks.on_ranks(ranks.sharded, after, options, 8, widths, str(tmp_path / "checkpoint"))
    assert resumed[0][2] == "second_order"
    torch.testing.assert_close(resumed[0][0], whole[at:], rtol=1e-6, atol=1e-8)


def test_a_process_group_that_is_none_is_named():
    model, *_ = net()
    with pytest.raises(TypeError, match=r"process_group: got 'world'.*allowed"):
        Fuse(model.parameters(), process_group="world")


UNNAMED = r"process_group: got None.*process_group=torch\.distributed\.group\.WORLD"


@pytest.fixture
def world(monkeypatch):
    """world(size) lets torch.distributed say that it runs with so many processes."""

    def set_size(size):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda group=None: size)

    return set_size


@pytest.mark.parametrize("switchover", ["always", "step:2", "theta:0.5"])
def test_other_processes_without_a_group_are_warned_of_once(world, switchover):
    model, x, y = net()
    world(2)
    opt = Fuse(model.parameters(), switchover=switchover)
    closure = closure_for(opt, model, x, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            opt.step(closure)
        opt._entered = False  # as after a way back to the first phase
        opt.step(closure)
    said = [w for w in caught if re.match(UNNAMED, str(w.message))]
    assert len(said) == 1
    assert said[0].filename == __file__


@pytest.mark.parametrize(("size", "switchover"), [(1, "always"), (2, "never"), (2, "step:9")])
def test_one_process_and_the_first_phase_are_not_warned(world, size, switchover):
    model, x, y = net()
    world(size)
    opt = Fuse(model.parameters(), switchover=switchover)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="process_group")
        for _ in range(5):
            opt.step(closure_for(opt, model, x, y))


def test_a_group_names_the_other_processes(world):
    world(2)
    assert Processes([]).unnamed()
    assert not Processes([], group=object()).unnamed()
