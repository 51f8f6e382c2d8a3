"""Several processes that train one model: who counts what, and how the shares are added up.

Two ways of training on several processes are known here:

DistributedDataParallel   every process holds all parameters and the averaged gradient, but the loss of its own
                          rows. All inner products are the same everywhere; the losses are averaged.
FSDP2, DTensor            every process holds a shard of each parameter, gradient and history vector. An inner
                          product is the sum of the shards' shares; a parameter that is not sharded lies on n
                          processes and each counts 1/n of it. The losses are averaged.

All decisions (line search, curvature test, switch) are made from numbers that went through here, so that every
process decides alike and calls its closure equally often. Otherwise they would wait for each other for ever. A closure
that raises in one process only is outside of what this, or DDP and FSDP2 themselves, can survive: end all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_sharded(t: Tensor) -> bool:
    """Whether it is a DTensor. (Asked by its name: importing the class takes longer than all of fuse_lib.)"""
    return type(t).__name__ == "DTensor"


def local(t: Tensor) -> Tensor:
    """This process's part of a DTensor, sharing its memory; any other tensor as it is."""
    return t.to_local() if is_sharded(t) else t


def local_gradient(p: Tensor) -> Tensor | None:
    """This process's part of p.grad, cut as p is."""
    grad = p.grad
    if grad is not None and is_sharded(grad) and grad.placements != p.placements:
        grad = grad.redistribute(placements=p.placements)
    return None if grad is None else local(grad)


def like(piece: Tensor, p: Tensor, lead: int) -> Tensor:
    """A local piece, (…lead…, *local shape of p), as a DTensor cut as p is; as it is where p is no DTensor."""
    if not is_sharded(p):
        return piece
    from torch.distributed.tensor import DTensor, Shard

    placements = [Shard(x.dim + lead) if isinstance(x, Shard) else x for x in p.placements]
    shape = torch.Size((*piece.shape[:lead], *p.shape))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(piece, p.device_mesh, placements, shape=shape, stride=stride)


class Processes:
    """The processes among which the parameters, or the rows, are divided. Alone, everything here does nothing.

    Args:
        params: the parameters. DTensors bring their own mesh.
        group: a torch.distributed process group, for DDP; None for one process or for DTensors alone.

    Raises:
        ValueError: DTensors on several meshes, or with partial placements.
    """

    def __init__(self, params: Sequence[Tensor], group: object = None) -> None:
        sharded = [p for p in params if is_sharded(p)]
        meshes = {p.device_mesh for p in sharded}
        if len(meshes) > 1:
            raise ValueError(f"params: got DTensors on {len(meshes)} device meshes; allowed is one mesh for all")
        if any(x.is_partial() for p in sharded for x in p.placements):
            raise ValueError("params: got a DTensor with a Partial placement; allowed are Shard and Replicate")
        self.mesh = meshes.pop() if meshes else None
        self.group = group
        self.alone = self.mesh is None and group is None
        # What an inner product's share counts, by parameter.
        self.shares = [1.0 if self.mesh is None else 1.0 / self._copies(p) for p in params]

    def _copies(self, p: Tensor) -> int:
        """On how many processes of the mesh each number of p lies."""
        if not is_sharded(p):
            return self.mesh.size()
        sizes = zip(self.mesh.shape, p.placements, strict=True)
        copies = 1
        for size, placement in sizes:
            copies *= size if placement.is_replicate() else 1
        return copies

    def unnamed(self) -> bool:
        """Whether there are other processes, though nobody said that they train one model with this one."""
        dist = torch.distributed
        if not (self.alone and dist.is_available() and dist.is_initialized()):
            return False
        return dist.get_world_size() > 1

    def combine(self, inner: Tensor, values: Tensor) -> Tensor:
        """[inner added up over the shards, values averaged over the processes], 1-D tensors, by one all-reduce
        (two where the mesh and the group are different ones)."""
        packed = torch.cat([inner, values]).double()
        if self.alone:
            return packed
        import torch.distributed as dist

        if self.group is None:  # DTensors: their mesh holds the rows too
            packed[inner.numel() :] /= self.mesh.size()
            for dim in range(self.mesh.ndim):
                dist.all_reduce(packed, group=self.mesh.get_group(dim))
            return packed
        if self.mesh is None:  # DDP: all hold the same inner products; averaging keeps them equal to the last bit
            packed /= dist.get_world_size(self.group)
            dist.all_reduce(packed, group=self.group)
            return packed
        inner, values = packed[: inner.numel()].clone(), packed[inner.numel() :] / dist.get_world_size(self.group)
        for dim in range(self.mesh.ndim):
            dist.all_reduce(inner, group=self.mesh.get_group(dim))
        dist.all_reduce(values, group=self.group)
        return torch.cat([inner, values])
