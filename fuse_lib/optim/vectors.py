"""The parameters of an optimizer, seen as one flat vector.

L-BFGS thinks in vectors x, g ∈ R^d. A model has many parameters, of many shapes and perhaps several
dtypes, some complex, some frozen, some without a gradient. This file is the bridge, and the only one
that knows parameters. Three things pass through one place each:

    gradient()  every gradient on its way in      (sparse, complex, None, weight decay, maximize)
    move()      every step on its way out
    read()      every number on its way to the host

With a metric D (see `handover.py`) the vectors are those of the problem in the variables
z = D^(−1/2) x: gradients come in as D^(1/2) g, directions go out as D^(1/2) p. Nothing else in the
second phase knows of it, for inner products such as gᵀp are the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from fuse_lib.optim.blocks import in_blocks
from fuse_lib.optim.processes import Processes, like, local, local_gradient

IN_RANGE = (1e-30, math.inf)  # of a sum of squares in float32 that lost nothing to underflow or overflow
LONG = 10_000  # numbers, from which on vector instructions pay
MOST_KEPT = 4  # vectors that were given back: x, two gradients, a direction


class Gradient(NamedTuple):
    """The gradient of the objective at one point.

    vector: (d,), in the metric's variables.
    norm_sq: ‖g‖² of the plain gradient (this process's share of it), 0-d tensor on the device; None where there is no
        metric, for it is that of `vector` then.
    """

    vector: Tensor
    norm_sq: Tensor | None


class Vectors:
    """Flat views of the parameters of some groups.

    Args:
        param_groups: an optimizer's groups. Of each, "weight_decay" (λ adds λ/2 ‖x‖² to the objective)
            and "maximize" are read at each evaluation.
        decoupled: whether the groups' weight decay is no part of the objective.
        group: the process group of DDP, or None (see processes.py).

    Attributes:
        numel: d, real numbers (a complex parameter counts twice), of those that this process holds.
        dtype: the parameters' promoted dtype, at least float32.
        scale: D^(1/2), (d,), or None for the plain variables.
        weights: what a coordinate counts in an inner product, (d,), or None for 1.
        processes: the others.
        on_host: whether to read a number is just to look at it: nothing is to be sent or agreed upon.

    Raises:
        ValueError: the parameters lie on more than one device, one is of integers, or groups differ in "maximize".
    """

    def __init__(self, param_groups: list[dict], decoupled: bool = False, group: object = None) -> None:
        self._groups = param_groups
        self._decoupled = decoupled
        self.params: list[Tensor] = [p for group in param_groups for p in group["params"]]
        devices = {p.device for p in self.params}
        if len(devices) > 1:
            raise ValueError(
                f"params: got parameters on {', '.join(sorted(map(str, devices)))}; "
                "allowed is one device, for L-BFGS works on one vector of all of them"
            )
        self.device = devices.pop() if devices else torch.device("cpu")
        self.dtype = torch.float32
        for p in self.params:
            if not (p.is_floating_point() or p.is_complex()) or p.dtype.itemsize < 2:
                raise ValueError(f"params: got one of {p.dtype}; allowed is a floating or complex dtype of 16 bits or "
                                 "more: leave such parameters out")  # fmt: skip
            real = p.dtype.to_real() if p.is_complex() else p.dtype
            self.dtype = torch.promote_types(self.dtype, real)
        self._shapes = [_real(local(p.detach())).shape for p in self.params]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.numel = sum(self._sizes)
        self.scale: Tensor | None = None
        self.processes = Processes(self.params, group)
        shares = self.processes.shares
        self.weights = None if all(share == 1.0 for share in shares) else self.spread(shares)
        self._signature = self._signature_now()
        widest = torch.finfo(self.dtype).max
        self._narrow = any(torch.finfo(p.dtype).max < 0.5 * widest for p in self.params)  # than the flat vectors
        # Whether a parameter's memory is a piece of a flat vector as it is: nothing to cast, view or cut.
        self._simple = bool(self.params) and self.processes.mesh is None
        self._simple &= all(p.dtype == self.dtype and p.layout is torch.strided for p in self.params)
        self.on_host = self.device.type == "cpu" and self.processes.alone
        self._active = [True] * len(self.params)
        self._free: list[Tensor] = []  # see take
        self._function = self._function_now()

    def _function_now(self) -> list[float]:
        """What decides, beside the closure, which function of which parameters is minimised."""
        maximize = [float(bool(group.get("maximize", False))) for group in self._groups]
        if len(set(maximize)) > 1:
            raise ValueError("maximize: got True in one group and False in another; allowed is one for all")
        decays = [float(group.get("weight_decay", 0)) for group in self._groups]
        return [*maximize[:1], *decays, *[float(p.requires_grad) for p in self.params]]

    def function_changed(self) -> bool:
        """Whether a parameter was frozen or thawed, or weight_decay or maximize set, since this was asked last."""
        before, self._function = self._function, self._function_now()
        return before != self._function

    def serve(self, param_groups: list[dict]) -> None:
        """Read weight_decay and maximize from these groups, of the same parameters, from now on."""
        self._groups = param_groups

    def state(self) -> dict[str, Tensor]:
        """What is to be saved: the function that was minimised last, and who took part in the last step."""
        return {"function": torch.tensor(self._function, dtype=torch.float64, device="cpu"),
                "active": torch.tensor(self._active, device="cpu")}  # fmt: skip

    def load(self, numbers: dict) -> None:
        """Take over what `state` gave."""
        if "function" in numbers:
            self._function = numbers["function"].tolist()
            self._active = [bool(active) for active in numbers["active"].tolist()]

    def matches(self) -> bool:
        """Whether the parameters still have the dtypes, devices and shapes this was made for."""
        return self._signature == self._signature_now()

    def _signature_now(self) -> list[tuple]:
        return [(p.dtype, p.device, p.shape) for p in self.params]

    # ---- in
    def take(self) -> Tensor:
        """A (d,) tensor to write to: one that was given back, or a new one. (New memory is slow to touch first.)"""
        return self._free.pop() if self._free else torch.empty(self.numel, dtype=self.dtype, device=self.device)

    def give(self, *vectors: Tensor) -> None:
        """Vectors that nobody reads any more. No more are kept than one iteration needs: not all were taken here."""
        self._free.extend(vectors[: MOST_KEPT - len(self._free)])

    def zeros(self) -> Tensor:
        """A (d,) tensor of zeros, of its own memory."""
        return torch.zeros(self.numel, dtype=self.dtype, device=self.device)

    def position(self, out: Tensor | None = None) -> Tensor:
        """The parameters x, copied to a (d,) tensor; to `out` if it is given."""
        if self._simple:
            return torch.cat([p.detach().reshape(-1) for p in self.params], out=self.take() if out is None else out)
        x = self.flat(self.params)
        return x if out is None else out.copy_(x)

    def gradient(self, start: bool = False) -> Gradient:
        """The gradient of the objective from the parameters' .grad, which is left as it is.

        A frozen parameter (requires_grad=False) and one without a gradient count as zero.
        start: this is where a step starts; those parameters then stay where they are in that step.
        """
        if start:
            self._active = [p.requires_grad and p.grad is not None for p in self.params]
        g = self._plain_gradient()
        if self.scale is None:
            return Gradient(g, None)
        norm_sq = self.dot(g, g)
        return Gradient(g.mul_(self.scale), norm_sq)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """aᵀb (this process's share of it), 0-d on the device."""
        return torch.dot(a if self.weights is None else a * self.weights.to(a.dtype), b)

    def products(self, a: Tensor, b: Tensor) -> tuple[Tensor]:
        """Σ (a_i b_i)² (this process's share of it), 0-d, as `in_blocks` wants it."""
        ab = a * b
        return (self.dot(ab, ab),)

    def squared_norm(self, wide: bool = False) -> Tensor:
        """‖g‖² of the gradient (this process's share of it), 0-d of the widest dtype, without a copy where that goes.

        wide: accumulated in that dtype, whose range is that of any float32 gradient. Otherwise what is not `in_range`
        may have been lost.
        """
        grads = [p.grad for p in self.params if p.requires_grad and p.grad is not None]
        as_they_are = self._simple and bool(grads) and all(g.layout is torch.strided for g in grads)
        as_they_are &= self.weights is None and not self._any_decay()
        if as_they_are and not (wide and self.dtype != self.wide):
            norm_sq = get_total_norm(grads).to(self.wide).square()
        else:
            g = self._plain_gradient()
            weighted = g if self.weights is None else g * self.weights.sqrt()
            self.give(g)
            norm_sq = torch.linalg.vector_norm(weighted, dtype=self.wide).square()
        # A frozen parameter is no part of the norm, but torch's optimizers step along a gradient that it still has.
        stale = [p.grad for p in self.params if p.grad is not None and not p.requires_grad]
        return norm_sq + sum(self.flat([g]).mul(0.0).sum() for g in stale) if stale else norm_sq  # 0 · inf is NaN

    @property
    def maximize(self) -> bool:
        """Whether the closure's value is to go up."""
        return self._sign() < 0

    @property
    def wide(self) -> torch.dtype:
        """The widest real dtype that the device has."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def penalty(self) -> Tensor | None:
        """λ/2 ‖x‖² of the groups with coupled weight decay (this process's share of it), 0-d, or None."""
        if not self._any_decay():
            return None
        terms = [0.5 * decay * share * self.flat([p.detach()]).square().sum() for _, p, decay, share in self._decayed()]
        return torch.stack(terms).sum() if terms else None

    def objective(self, loss: float, penalty: float) -> float:
        """What is minimised: ± the closure's loss, plus the penalty."""
        return self._sign() * loss + penalty

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """One tensor per parameter, each of its shape, as one (d,) vector."""
        mine = (local(t.detach()) for t in tensors)
        dense = (t.to_dense() if t.layout != torch.strided else t for t in mine)
        pieces = [_real(t).reshape(-1) for t in dense]
        if not pieces:
            return torch.zeros(0, dtype=self.dtype, device=self.device)
        return torch.cat(pieces).to(self.dtype)

    def spread(self, values: Sequence[float]) -> Tensor:
        """One number per parameter, as a (d,) vector that repeats it over the parameter's coordinates."""
        like = {"dtype": self.dtype, "device": self.device}
        pieces = [torch.full((n,), v, **like) for n, v in zip(self._sizes, values, strict=True)]
        return torch.cat(pieces) if pieces else torch.zeros(0, **like)

    # ---- out
    def outward(self, direction: Tensor) -> Tensor:
        """A direction in the metric's variables, as one of the parameters."""
        return direction if self.scale is None else direction * self.scale

    def inward(self, step: Tensor) -> Tensor:
        """A step of the parameters, in the metric's variables. Frozen coordinates (D = 0) stay 0."""
        if self.scale is None:
            return step
        return torch.where(self.scale > 0, step / self.scale, torch.zeros_like(step))

    def any_active(self) -> bool:
        """Whether any parameter had a gradient at the start of this step."""
        return any(self._active)

    def masked(self, direction: Tensor) -> Tensor:
        """The direction without the coordinates that are inactive in this step."""
        if all(self._active):
            return direction
        return direction * self.spread([float(active) for active in self._active])

    def move(self, origin: Tensor, t: float, direction: Tensor) -> None:
        """Parameters ← origin + t · direction, (d,) each, in plain variables. Inactive ones stay."""
        if not (self._simple and all(self._active)):
            self.place(torch.add(origin, direction, alpha=t))
            return
        targets = self.params
        starts, steps = self.split(origin), self.split(direction)
        if self.device.type == "cpu":  # in one pass
            for target, start, step in zip(targets, starts, steps, strict=True):
                torch.add(start, step, alpha=t, out=target)
        else:  # in two kernels, however many parameters there are
            torch._foreach_copy_(targets, starts)
            torch._foreach_add_(targets, steps, alpha=t)

    def moved(self, x: Tensor) -> Tensor | bool:
        """Whether the parameters are no longer x.

        Where the answer has to be read from a device or agreed upon: (this process's share of) a 0-d tensor that is
        0 if they are.
        """
        if self._simple and self.on_host:
            pieces = zip(self.params, self.split(x), strict=True)
            return not all(_same(p.detach(), piece) for p, piece in pieces)
        difference = self.position().sub_(x)
        return difference.abs_().max() if self.numel else difference.sum()

    def lost(self, t: float) -> Tensor | None:
        """How many parameters are not finite after `move` by t (this process's share of them), 0-d.

        None where none can be, so that nothing is computed: no longer than a finite direction, in its own range.
        """
        return None if t <= 1.0 and not self._narrow else (~self.position().isfinite()).sum()

    def place(self, x: Tensor) -> None:
        """Parameters ← x, but those that are inactive in this step stay."""
        self._write(x, only_active=True)

    def restore(self, x: Tensor) -> None:
        """Parameters ← x, bit for bit where x came from `position`."""
        self._write(x, only_active=False)

    # ---- to the host
    def read(self, inner: Sequence[Tensor], values: Sequence[Tensor | float] = ()) -> list[list[float]]:
        """Several small tensors as lists of floats, by one transfer.

        inner: (shares of) sums over the d coordinates. values: numbers such as the loss, which are not; a float
        passes through. The one place where several processes add up the former and average the latter.
        """
        if not self.processes.alone:
            values = [v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in values]
            numbers = self.processes.combine(self._packed(inner), self._packed(values)).tolist()
        else:
            tensors = [t for t in (*inner, *values) if isinstance(t, Tensor)]
            numbers = self._packed(tensors).tolist() if tensors else []
        lists, at = [], 0
        for item in (*inner, *values):
            if isinstance(item, Tensor):
                end = at + (item.numel() if item.dim() else 1)
                lists.append(numbers[at:end])
                at = end
            else:
                lists.append([float(item)])
        return lists

    def _packed(self, tensors: Sequence[Tensor]) -> Tensor:
        """Small tensors in one vector, of the widest of their dtypes."""
        if not tensors:
            return torch.zeros(0, dtype=self.wide, device=self.device)
        if self.device.type != "cpu":
            tensors = [t if t.device == self.device else t.to(self.device) for t in tensors]
        return torch.cat([t if t.dim() == 1 else t.reshape(-1) for t in tensors])

    # ---- what a first-order step needs
    def grads(self) -> list[Tensor | None]:
        """Copies of the parameters' .grad."""
        return [None if p.grad is None else p.grad.clone() for p in self.params]

    def set_grads(self, grads: Sequence[Tensor | None]) -> None:
        for p, grad in zip(self.params, grads, strict=True):
            p.grad = grad

    # ---- per parameter, for checkpoints
    def split(self, vectors: Tensor) -> list[Tensor]:
        """A (d,) or (m, d) tensor as one view per parameter, shape [m,] *p.shape [, 2 if complex]."""
        if vectors.dim() == 1:
            if len(self._sizes) == 1:  # nothing to cut
                return [vectors.view(self._shapes[0])]
            pieces = torch.split_with_sizes(vectors, self._sizes)
            return [
                piece if len(shape) == 1 else piece.view(shape)
                for piece, shape in zip(pieces, self._shapes, strict=True)
            ]
        pieces, lead = torch.split_with_sizes(vectors, self._sizes, -1), vectors.shape[:-1]
        return [piece.reshape((*lead, *shape)) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def saved(self, vectors: Tensor) -> list[Tensor]:
        """The same for a checkpoint: a sharded parameter's as a DTensor, which loads on any number of processes."""
        lead = vectors.dim() - 1
        return [like(piece, p, lead) for piece, p in zip(self.split(vectors), self.params, strict=True)]

    def join(self, pieces: Iterable[Tensor], lead: tuple[int, ...] = ()) -> Tensor:
        """The inverse of `split` and `saved`."""
        return torch.cat([local(piece).flatten(len(lead)) if piece.dim() > len(lead) else local(piece).unsqueeze(-1)
                          for piece in pieces], dim=-1)  # fmt: skip

    # ---- inside
    def _sign(self) -> float:
        return -1.0 if self._groups[0].get("maximize", False) else 1.0

    def _write(self, x: Tensor, only_active: bool) -> None:
        pieces = zip(self.params, self.split(x), self._active, strict=True)
        chosen = [(_real(local(p.detach())), piece) for p, piece, active in pieces if active or not only_active]
        if chosen:
            torch._foreach_copy_(*map(list, zip(*chosen, strict=True)))

    def _plain_gradient(self) -> Tensor:
        """The objective's gradient by the parameters themselves, (d,)."""
        if self._plain_grads():
            g = torch.cat([p.grad.reshape(-1) for p in self.params], out=self.take())
        else:
            g = self._mended_gradient()
        if self._sign() < 0:
            g.neg_()
        if self._any_decay():
            for piece, p, weight_decay, _ in self._decayed(g):
                if p.grad is not None and p.requires_grad:
                    piece.add_(self.flat([p.detach()]), alpha=weight_decay)
        return g

    def _plain_grads(self) -> bool:
        """Whether all gradients are there and can be put one after another as they are."""
        return self._simple and all(
            p.requires_grad and (g := p.grad) is not None and g.layout is torch.strided for p in self.params
        )

    def _mended_gradient(self) -> Tensor:
        """The same from gradients of any kind: none, sparse, complex, sharded."""
        grads = [local_gradient(p) if p.requires_grad else None for p in self.params]
        zeros = (
            torch.zeros_like(local(p.detach())) if q is None else q for p, q in zip(self.params, grads, strict=True)
        )
        return self.flat(list(zeros))

    def _any_decay(self) -> bool:
        """Whether weight decay is a part of the objective."""
        return not self._decoupled and any(group.get("weight_decay", 0) for group in self._groups)

    def _decayed(self, vector: Tensor | None = None):
        """(its slice of `vector`, parameter, λ, its share) for each parameter with coupled weight decay λ > 0."""
        decays = [group.get("weight_decay", 0) for group in self._groups for _ in group["params"]]
        pieces = [None] * len(decays) if vector is None else vector.split(self._sizes)
        for piece, p, decay, share in zip(pieces, self.params, decays, self.processes.shares, strict=True):
            if decay:
                yield piece, p, float(decay), share


def in_range(sum_of_squares: float) -> bool:
    """Whether a sum of squares was in float32's range, so that nothing was lost."""
    return IN_RANGE[0] < sum_of_squares < IN_RANGE[1]


def _real(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers.

    `torch.equal` looks at one number after the other. The largest difference comes from vector instructions, but tells
    nothing where it is not 0: that of two infinities is not a number.
    """
    if a.numel() > LONG and a.is_contiguous() and b.is_contiguous():
        (off,) = in_blocks(_largest_difference, a.view(-1), b.view(-1))
        if float(off) == 0.0:
            return True
    return torch.equal(a, b)


def _largest_difference(a: Tensor, b: Tensor) -> tuple[Tensor]:
    return ((a - b).abs_().max(),)
