"""Counts of reads, kernels and bytes: known operations, and optimizers whose counts are known."""

import gc

import pytest
import torch

from fuse_lib import LBFGS, FusePV
from fuse_lib.lab import Counting


@pytest.fixture
def x():
    p = torch.nn.Parameter(torch.ones(1000))
    p.grad = torch.ones(1000)
    return p


def test_each_way_to_read_a_value_counts_once(x):
    v = x.detach()
    for read in (
        lambda: v.sum().item(), lambda: float(v.sum()), lambda: bool(v.sum() > 0), lambda: v[:3].tolist(),
        lambda: v.clone().add_(v, alpha=v.sum()), lambda: v.nonzero(), lambda: v.cpu(),
    ):  # fmt: skip
        with Counting([x]) as count:
            read()
        assert count.reads == 1


def test_what_was_not_computed_from_the_parameters_is_the_hosts(x):
    with Counting([x]) as count:
        small = torch.ones(3, dtype=torch.float64) @ torch.eye(3, dtype=torch.float64)
        small.tolist(), small.sum().item()
    assert (count.reads, count.kernels) == (0, 0)


def test_views_are_no_kernels_and_the_closure_is_left_out(x):
    with Counting([x]) as count:
        y = x.detach().view(10, 100).T[2:4] * 2.0
        count.left_out(lambda: (x.detach() * 3).sum().item())()
        assert count.kernels == 1
        (x.grad + y.sum()).sum()
    assert (count.reads, count.kernels) == (0, 4)


def test_the_peak_is_that_of_tensors_alive_at_a_time(x):
    with Counting([x]) as count:
        for _ in range(3):
            a = x.detach() * 2
            b = a + 1
            del a, b
        gc.collect()
        assert count.bytes == 0
        kept = torch.zeros(5000)
    assert (count.bytes, count.peak) == (20000, 20000)
    assert len(kept) == 5000


def counted(make, x, steps):
    a = torch.logspace(-1, 1, len(x))

    @torch.no_grad()
    def closure():
        torch.mul(a, x, out=x.grad)
        return 0.5 * torch.dot(x.grad, x.detach())

    with Counting([x]) as count:
        opt = make([x])
        for _ in range(steps):
            opt.step(count.left_out(closure))
        before = count.reads
        opt.step(count.left_out(closure))
    return count.reads - before, count.peak / (4 * len(x))


def test_the_first_phase_reads_nothing_and_a_rule_that_reads_values_once_a_step(x):
    assert counted(lambda p: FusePV(p, switchover="step:100"), x, 5)[0] == 0
    assert counted(lambda p: FusePV(p, switchover="gradnorm:1e-12:5"), x, 5)[0] == 1
    assert counted(lambda p: torch.optim.Adam(p, 1e-3), x, 5)[0] == 0


@pytest.mark.parametrize("m", [3, 6])
@pytest.mark.parametrize("full_batch", [False, True])
def test_an_iteration_reads_twice_whatever_the_history_and_its_peak_is_the_history(x, m, full_batch):
    reads, peak = counted(lambda p: LBFGS(p, history_size=m, full_batch=full_batch), x, m + 2)
    assert reads == 2
    assert 2 * m <= peak <= 2 * m + 9


def test_torchs_two_loops_read_twice_a_pair(x):
    reads, options = [], {"max_iter": 1, "tolerance_grad": 0, "tolerance_change": 0}
    for m in (4, 8):
        p = torch.nn.Parameter(x.detach().clone())
        p.grad = torch.ones(1000)
        reads.append(counted(lambda params, m=m: torch.optim.LBFGS(params, history_size=m, **options), p, 12)[0])
    assert reads[1] - reads[0] == 2 * 4
