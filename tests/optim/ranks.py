"""Functions that run on every rank of a group of processes, and how they are started."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import warnings

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fuse_lib import Fuse
from tests.optim.tools import flat, net

SIZE = 64  # rows of tools.net's data


def on_ranks(function, ranks, *args):
    """Run function(rank, ranks, *args) on each of `ranks` processes; returns what each saved, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_start, args=(ranks, folder, function, args), nprocs=ranks, join=True)
        return [torch.load(os.path.join(folder, f"{rank}.pt"), weights_only=False) for rank in range(ranks)]


def _start(rank, ranks, folder, function, args):
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message="process_group")  # a group is given, or DTensors bring their mesh
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    torch.save(function(rank, ranks, *args), os.path.join(folder, f"{rank}.pt"))
    dist.barrier()
    time.sleep(0.2)  # for the others to leave the barrier
    # All is saved. An orderly exit now and then aborts in gloo's own threads ("terminate called without an
    # active exception"), which says nothing about what was tested.
    os._exit(0)


def shard(x, y, rank, ranks):
    """Every rank's rows: as many each, so that the mean of the means is the mean."""
    return x[rank::ranks], y[rank::ranks]


def local_closure(opt, model, x, y, spoil=None):
    """The loss of this rank's rows only; `spoil(call)` may make it NaN."""
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        opt.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss * torch.nan if spoil is not None and spoil(calls) else loss

    return closure


def ddp(rank, ranks, options, steps):
    """Train with a local loss; the parameters and reports after each step."""
    model, x, y = net()
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    opt = Fuse(wrapped.parameters(), lr=1e-2, process_group=dist.group.WORLD, **options)
    closure = local_closure(opt, wrapped, *shard(x, y, rank, ranks))
    path, reports = [], []
    for _ in range(steps):
        opt.step(closure)
        path.append(flat(model))
        reports.append(opt.last_step.as_dict())
    return torch.stack(path), reports


def ddp_with_a_nan(rank, ranks):
    """Rank 1's third evaluation, a trial of the second phase, is NaN."""
    model, x, y = net()
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    opt = Fuse(wrapped.parameters(), switchover="always", process_group=dist.group.WORLD)
    closure = local_closure(opt, wrapped, *shard(x, y, rank, ranks), spoil=lambda call: rank == 1 and call == 4)
    path, evals = [], []
    for _ in range(6):
        opt.step(closure)
        path.append(flat(model))
        evals.append(opt.last_step.evals)
    return torch.stack(path), evals


def sharded(rank, ranks, options, steps, widths=(8,), load=None, save=None, start=0):
    """FSDP2 on each rank's rows; the full parameters after each step. load, save: folders of checkpoints."""
    from torch.distributed.checkpoint import load as dcp_load
    from torch.distributed.checkpoint import save as dcp_save
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (ranks,))
    model, x, y = wide_net(widths)
    fully_shard(model, mesh=mesh)
    opt = Fuse(model.parameters(), lr=1e-2, **options)
    if load is not None:
        opt.allocate()
        weights, state = get_state_dict(model, opt)
        dcp_load({"model": weights, "opt": state}, checkpoint_id=load)
        set_state_dict(model, opt, model_state_dict=weights, optim_state_dict=state)
    closure = local_closure(opt, model, *shard(x, y, rank, ranks))
    path, local_sizes = [], []
    for _ in range(start, start + steps):
        opt.step(closure)
        path.append(torch.cat([p.full_tensor().detach().flatten() for p in model.parameters()]))
    if save is not None:
        opt.allocate()
        weights, state = get_state_dict(model, opt)
        dcp_save({"model": weights, "opt": state}, checkpoint_id=save)
    if opt._second is not None and opt._second.history is not None and opt._second.history.S is not None:
        local_sizes = list(opt._second.history.S.shape)
    return torch.stack(path), local_sizes, opt.phase


def wide_net(widths):
    generator = torch.Generator().manual_seed(5)
    sizes = [2, *widths, 1]
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(a, b, dtype=torch.float64), torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.5)
    _, x, y = net()
    return model, x, y
