"""Saving and loading `Fuse`: what its base class adds to torch.optim.Optimizer.

Three things torch does not do for an optimizer that is made of two:
`load_state_dict` casts every tensor to its parameter's dtype (a bfloat16 history and a float64 Gram matrix
would not survive), so our entries are taken out before torch sees them. Pickling and deepcopy keep
param_groups and state only, so the rest is added. And `torch.distributed.checkpoint` makes a fresh
optimizer's state by a step without closure, with lr 0 and zero gradients, which must not count.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor
from torch.optim import Optimizer

from fuse_lib.optim import second_state
from fuse_lib.optim.handover import usable, wants_metric
from fuse_lib.optim.methods import METHODS
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.plain import decode, encode, extract, flatten, insert, unflatten
from fuse_lib.optim.processes import local
from fuse_lib.optim.second_order import SecondOrder

_OWN = ("_first", "_rule", "_options", "_second", "_collector", "_memory", "_watch", "_calls", "_theta",
        "_entered")  # fmt: skip


class Saved(Optimizer):
    """An optimizer whose state of both phases is one state_dict of plain tensors and numbers."""

    def state_dict(self) -> dict:
        """The state of both phases and of the rule, under the parameters, in names that begin with "fuse_"."""
        hook = self.register_state_dict_post_hook(Saved._with_own_state, prepend=True)  # before the user's hooks
        try:
            return super().state_dict()
        finally:
            hook.remove()

    def _with_own_state(self, state_dict: dict) -> dict:
        numbers: dict[str, object] = {
            "calls": self._calls,
            "theta": self._theta,
            "collect": self._collector.left,
            "entered": self._entered,
            "cosine": float(self._watch.cosine),
            "rule": encode(str(self._rule)),
            "first_order": encode(self._first_name()),
            "second_order": encode(self._options.second_order),
            **dict(flatten(self._memory, "memory")),
        }
        if self._options.check_every > 1:
            numbers["backlog"] = self._watch.backlog.state(self._options.check_every)
            numbers["queued"] = len(self._watch.backlog)
        pieces = {}
        if self._second is not None and second_state.in_use(self._second):
            more, vectors = second_state.state(self._second)
            numbers |= more
            pieces = {name: self._second.vectors.saved(v) for name, v in vectors.items()}
        trainable = [p.requires_grad for group in self.param_groups for p in group["params"]]
        home = trainable.index(True) if any(trainable) else 0
        return insert(state_dict, numbers, pieces, home, parameters=len(trainable))

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what `state_dict` gave, or the state of a bare first-order optimizer of the same class.

        The constructor's rule stays in force; where the saved one was another, a warning says so. Tensors
        keep the dtype they were saved with and are copied.

        Raises:
            ValueError: the state is of another first_order, history_size or set of parameters. Nothing is
                changed then.
        """
        taken: list[tuple[dict, SecondOrder | None, dict]] = []

        def take_out(optimizer: Saved, state_dict: dict) -> dict:
            rest, numbers, pieces = extract(state_dict)
            try:
                taken.append((*optimizer._checked(numbers, pieces), optimizer._by_parameter(rest)))
            except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"state_dict: it does not fit this optimizer (first_order={self._first_name() or None}, "
                    f"second_order={self._options.second_order}, history_size={self._options.history_size} and these "
                    f"parameters): {error}"
                ) from error
            return rest

        hook = self.register_load_state_dict_pre_hook(take_out)  # after the user's hooks
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        numbers, self._second, raw = taken[0]
        if self._second is not None:
            self._second.vectors.serve(self.param_groups)  # torch has put new ones in the place of the old
        self._keep_scalar_dtypes(raw)
        if not numbers:
            warnings.warn(
                f"state_dict: it holds nothing of {type(self).__name__}'s own, as if saved by a bare first-order "
                f"optimizer: the rule {str(self._rule)!r} starts anew. (A distributed "
                "checkpoint with flatten_optimizer_state_dict=True loses the second phase; leave that False)",
                stacklevel=2,
            )
            numbers = {"rule": str(self._rule), "memory": self._rule.memory()}
        self._calls = numbers.get("calls", 0)
        self._theta = numbers.get("theta", self._rule.first())
        self._collector.left = numbers.get("collect", 0)
        self._entered = numbers.get("entered", False)
        self._watch.cosine = numbers.get("cosine", math.nan)
        self._watch.backlog.load(numbers.get("backlog"), numbers.get("queued", 0))
        self._report = None
        self._load_rule(numbers["rule"], numbers["memory"])

    def _checked(self, numbers: dict, pieces: dict) -> tuple[dict, SecondOrder | None]:
        """A saved state with its numbers as what they should be, and the second phase it describes.

        self is not changed. Raises whatever shows that the state is not one of ours.
        """
        if not numbers:
            return numbers, None  # the state of a bare first-order optimizer
        saved, own = decode(numbers["first_order"]), self._first_name()
        if saved != own:
            raise ValueError(f"it was saved with first_order={saved or None}")
        second = decode(numbers["second_order"]) if "second_order" in numbers else "lbfgs"  # older states had no other
        if second != self._options.second_order:
            raise ValueError(f"it was saved with second_order={second}")
        theta = float(numbers["theta"])
        if not 0.0 <= theta <= 1.0:
            raise ValueError(f"its theta is {theta!r}; allowed is a number in [0, 1]")
        known = {
            "calls": int(numbers["calls"]),
            "theta": theta,
            "collect": int(numbers["collect"]),
            "entered": bool(int(numbers["entered"])),
            "cosine": float(numbers["cosine"]),
            "queued": int(numbers.get("queued", 0)),
            "backlog": numbers.get("backlog"),
            "rule": decode(numbers["rule"]),
            "memory": unflatten(numbers, "memory"),
        }
        return known, self._second_from(numbers, pieces) if "failures" in numbers else None

    def _second_from(self, numbers: dict, pieces: dict) -> SecondOrder:
        """The second phase that a saved state describes; self is not changed."""
        second = self._new_second_phase()
        order = range(len(second.vectors.params))
        vectors = {
            name: second.vectors.join([piece[i] for i in order], second.method.rows(name))
            for name, piece in pieces.items()
        }
        second_state.load(second, numbers, vectors)
        return second

    def _keep_scalar_dtypes(self, raw: dict) -> None:
        """Undo torch's cast of numbers such as NAdam's mu_product, which are not like a parameter."""
        for p, saved in raw.items():
            for name, value in saved.items():
                if isinstance(value, Tensor) and value.dim() == 0:
                    self.state[p][name] = self.state[p][name].to(value.dtype)

    def _by_parameter(self, state_dict: dict) -> dict[Tensor, dict]:
        """The entries of a state_dict, under the parameters of self in their order."""
        ids = [key for group in state_dict["param_groups"] for key in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        state = state_dict["state"]
        return {p: state[key] for key, p in zip(ids, params, strict=False) if isinstance(state.get(key), dict)}

    def _load_rule(self, saved: str, memory: dict) -> None:
        """The saved memory of an equal rule; of another one the latch alone."""
        own = str(self._rule)
        self._memory = self._rule.memory()
        if saved == own:
            self._memory |= memory
            return
        warnings.warn(f"switchover: the state was saved under {saved!r}; this optimizer's {own!r} stays in force",
                      stacklevel=3)  # fmt: skip
        if not self._rule.hard:
            readable = not self._rule.reads and self._calls
            seen = Observation(self._calls)
            self._theta = self._rule.theta(seen, self._memory) if readable else self._rule.first()
            return
        self._memory["latched"] = bool(memory.get("latched", False))
        if not self._collector.left:
            self._theta = 0.0 if self._memory["latched"] else self._rule.first()

    def allocate(self) -> None:
        """Make the second phase's state now, as a distributed checkpoint needs it to load into."""
        second = self._second_phase()
        second.method.allocate()
        if second.vectors.scale is None and (len(self.param_groups) > 1 or wants_metric(self._usable())):
            second.rescale(torch.ones(second.vectors.numel, dtype=second.vectors.dtype, device=second.vectors.device))

    # ---- pickle and deepcopy
    def __getstate__(self) -> dict:
        return super().__getstate__() | {name: self.__dict__[name] for name in _OWN} | {"_report": None}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._link()

    def _link(self) -> None:
        """Let the first phase's optimizer work on our groups and state, whatever objects they are by now."""
        if self._first is not None:
            self._first.link(self)

    def _usable(self) -> str:
        """What of the handover the second phase's method can inherit, as a mode of `handover.py`."""
        return usable(self._options.handover, METHODS[self._options.second_order].inherits)

    def _first_name(self) -> str:
        return "" if self._first is None else self._first.name

    # ---- distributed checkpoints
    def _is_probe(self) -> bool:
        """Whether torch.distributed.checkpoint asks for the state to be made, by a step that moves nothing."""
        if self.state or any(float(group["lr"]) != 0.0 for group in self.param_groups):
            return False
        grads = (local(p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None)
        return not any(bool(g.to_dense().count_nonzero()) for g in grads)

    def _fill_state(self) -> None:
        """Make the first phase's state without counting a step."""
        if self._first is None:
            return
        self._first.step()
        for state in self.state.values():
            for name, start in (("step", 0.0), ("mu_product", 1.0)):
                if isinstance(state.get(name), Tensor):
                    state[name].fill_(start)
