"""Fuse, FusePV and LBFGS: the optimizers that one uses.

One call of `step(closure)` is

    observe → θ → the phase's step, or both blended → report

and everything mathematical happens elsewhere: the first phase in torch's own optimizer
(`first_order.py`), the second in `second_order.py`, the switch in `switchover.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from fuse_lib.optim import handover as handovers
from fuse_lib.optim.checkpoint import decode, encode, extract, flatten, insert, unflatten
from fuse_lib.optim.first_order import FirstOrder
from fuse_lib.optim.history import History, Pair
from fuse_lib.optim.observation import Backlog, Observation
from fuse_lib.optim.options import Options, check_lr
from fuse_lib.optim.report import StepReport
from fuse_lib.optim.second_order import Point, SecondOrder
from fuse_lib.optim.switchover import Always, Never, Rule, parse
from fuse_lib.optim.vectors import Gradient, Vectors

DEFAULT_RULE = "gradnorm:1e-3:50"
PHASES = {1.0: "first_order", 0.0: "second_order"}


class _Counted:
    """The closure of one step: called with autograd on, counted, and its value made a scalar."""

    def __init__(self, closure: Callable[[], object], most: int) -> None:
        self.closure, self.most, self.calls = closure, most, 0

    @property
    def left(self) -> int:
        return self.most - self.calls

    def value(self) -> object:
        with torch.enable_grad():
            value = self.closure()
        self.calls += 1
        return value

    def __call__(self) -> tuple[object, Tensor | float]:
        value = self.value()
        return value, _scalar(value)


class Fuse(Optimizer):
    """Start with a first-order optimizer, finish with L-BFGS, or blend the two (arXiv 2503.04204).

    Args:
        params: parameters, named parameters or groups, as for any torch optimizer.
        lr: of the first phase.
        switchover: a `Rule` or its string ("step:500", "gradnorm:1e-3:50", …; see `fuse_lib.switchover`).
            A criterion makes it FUSE-PV (Algorithm 4), a θ schedule general FUSE (Algorithm 3).
        first_order: the first phase's class, any of torch's that needs no closure.
        first_order_args: what else that class takes, {"betas": (0.9, 0.99), "fused": True}.
        handover: what the second phase inherits: "none", "pairs", "metric" or "both" (see `handover.py`).
        history_size: m, the number of curvature pairs.
        line_search: "strong_wolfe".
        inner_steps: L-BFGS iterations in one call of the second phase, all on its closure.
        max_evals: the most closure calls in one call of `step`, at least 2.
        full_batch: your promise that the closure is one and the same function each time. Then an L-BFGS
            iteration costs one evaluation and pairs cost nothing. It is tested once, and broken promises raise.
        skip_nonfinite: leave out first-order steps whose loss or gradient is not finite. Rules that read
            values do so anyway, where they read them.
        check_every: how often, in calls, values are read from the device for the rule (which sees them all).
        history_dtype: of the stored pairs; torch.bfloat16 halves their memory.
        process_group: None. (Several processes are not supported yet.)
        damped: mend curvature pairs of too little curvature (Powell) instead of leaving them out.

    Raises:
        ValueError, TypeError: an argument that is not allowed; the message names it, its value and what is.

    >>> x = torch.nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    >>> opt = Fuse([x], lr=0.02, switchover="step:50", full_batch=True)
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(100):
    ...     loss = opt.step(closure)
    >>> opt.phase, bool(loss < 1e-12)
    ('second_order', True)
    """

    def __init__(
        self,
        params,
        lr: float | Tensor = 1e-3,
        *,
        switchover: str | Rule = DEFAULT_RULE,
        first_order: type[Optimizer] = torch.optim.Adam,
        first_order_args: dict | None = None,
        handover: str = "pairs",
        history_size: int = 10,
        line_search: str = "strong_wolfe",
        inner_steps: int = 1,
        max_evals: int = 25,
        full_batch: bool = False,
        skip_nonfinite: bool = False,
        check_every: int = 1,
        history_dtype: torch.dtype | None = None,
        process_group: object = None,
        damped: bool = False,
    ) -> None:
        options = Options(
            handover=handover, history_size=history_size, line_search=line_search, inner_steps=inner_steps,
            max_evals=max_evals, full_batch=full_batch, skip_nonfinite=skip_nonfinite, check_every=check_every,
            history_dtype=history_dtype, process_group=process_group, damped=damped,
        )  # fmt: skip
        check_lr(lr)
        first = FirstOrder(first_order, params, lr, dict(first_order_args or {}))
        rule = parse(switchover)
        if handovers.wants_metric(handover) and not first.has_second_moments() and handover == "metric":
            raise ValueError(f"handover: got 'metric'; allowed with {first.name}, which keeps no second moments, is "
                             "'none', 'pairs' or 'both'")  # fmt: skip
        if handover == "metric" and rule.first() < 1.0:
            raise ValueError(f"handover: got 'metric'; with switchover {str(rule)!r} no first-order step comes before "
                             "the second phase, so allowed is 'none', 'pairs' or 'both'")  # fmt: skip
        self._setup(first.optimizer.param_groups, first.optimizer.defaults, first, rule, options)

    def _setup(self, groups, defaults: dict, first: FirstOrder | None, rule: Rule, options: Options) -> None:
        self._first, self._rule, self._options = first, rule, options
        self._second: SecondOrder | None = None
        self._memory = rule.memory()
        self._backlog = Backlog()
        self._calls = 0
        self._theta = _valid_theta(rule.first(), rule)
        self._collect = 0  # first-order steps to go in which pairs are collected, after a rule fired
        self._entered = False  # whether the second phase's metric is fixed
        self._cosine: Tensor | float = math.nan
        self._report: StepReport | None = None
        super().__init__(groups, defaults)
        self._link()
        if not isinstance(rule, Never):
            self._second_phase()  # raises where it could not work

    def _link(self) -> None:
        if self._first is not None:
            self._first.link(self)

    # ---- what the user sees
    @property
    def theta(self) -> float:
        """θ of the coming call: the share of the first-order step, 1 … 0."""
        return self._theta

    @property
    def phase(self) -> str:
        """The phase of the coming call: "first_order", "blend" or "second_order"."""
        return PHASES.get(self._theta, "blend")

    @property
    def switchover(self) -> Rule:
        return self._rule

    @property
    def last_step(self) -> StepReport | None:
        """What the last call did, or None before the first."""
        return self._report

    # ---- a step
    @torch.no_grad()
    def step(self, closure: Callable[[], object] | None = None) -> object:
        """One step.

        Args:
            closure: clears the gradients, computes the loss (a float or a one-element tensor), calls
                backward and returns the loss. Without it only first-order steps are possible, from
                gradients that are there already, and only under rules that do not read the loss.

        Returns:
            What the closure returned at the step's start.

        Raises:
            RuntimeError: no closure where one is needed; or a broken full_batch promise.
            TypeError, ValueError: a closure that returns no scalar loss where its value is needed.
            Whatever the closure raises. The parameters are then at the last accepted point.
        """
        if closure is None:
            if self._is_probe():
                return self._fill_state()
            self._check_closure_free()
        if self._theta == 1.0:
            value, seen = self._first_order_step(closure)
        else:
            value, seen = self._second_order_step(_Counted(closure, self._options.max_evals), self._theta)
        self._calls += 1
        self._ask(seen)
        return value

    def _ask(self, seen: list[Observation]) -> None:
        """θ of the next call, from what was seen since the rule was asked last."""
        if self._rule.hard and (self._theta == 0.0 or self._collect):
            if self._collect:
                self._collect -= 1
                self._theta = float(self._collect > 0)
            return
        theta = self._theta
        for observation in seen:
            theta = _valid_theta(self._rule.theta(observation, self._memory), self._rule)
        if theta == 0.0 and self._rule.hard and self._collects_afterwards():
            self._collect = self._options.history_size
        else:
            self._theta = theta

    # ---- first phase
    def _first_order_step(self, closure) -> tuple[object, list[Observation]]:
        options, run = self._options, None if closure is None else _Counted(closure, self._options.max_evals)
        value = None if run is None else run.value()
        report = StepReport(phase="first_order", theta=1.0, loss=_loss_of(value), evals=int(run is not None))
        seen, finite = self._observe(value, report)
        if not finite:
            report.set(stop_reason="non_finite")
        elif not self._collecting() or run is None:
            self._first.step()
        elif options.full_batch:
            self._collect_between_calls(value)
            self._first.step()
        else:
            self._collect_within(run, value, report)
        report.set(evals=0 if run is None else run.calls)
        self._report = report
        return value, seen

    def _observe(self, value: object, report: StepReport) -> tuple[list[Observation], bool]:
        """(observations that are on the host now, whether this one is finite as far as is known)."""
        iteration = self._calls + 1
        if not self._rule.reads and not self._options.skip_nonfinite:
            return [Observation(iteration)], True
        norm_sq = self._second_phase().vectors.gradient().norm_sq
        report.set(grad_norm=lambda: math.sqrt(norm_sq))
        self._backlog.add(math.nan if value is None else _scalar(value), norm_sq)
        if iteration % self._options.check_every and not self._options.skip_nonfinite:
            return [], True
        seen = self._backlog.read(last=iteration)
        last = seen[-1]
        finite = math.isfinite(last.grad_norm_sq) and (value is None or math.isfinite(last.loss))
        return seen, finite

    def _collecting(self) -> bool:
        """Whether this first-order step's pair is wanted: only near the switch, or where it costs no evaluation."""
        options, known = self._options, self._rule.switch_step()
        if not handovers.wants_pairs(options.handover) or not self._rule.hard or isinstance(self._rule, Never):
            return False
        if known is not None:
            return self._calls >= known - options.history_size
        return options.full_batch or self._collect > 0

    def _collects_afterwards(self) -> bool:
        """Whether m more first-order steps follow once the rule fired, to collect pairs in them."""
        options = self._options
        unforeseen = self._rule.switch_step() is None and not options.full_batch
        return handovers.wants_pairs(options.handover) and unforeseen

    def _collect_between_calls(self, value: object) -> None:
        """full_batch: the pair from the last known point to here; both gradients are there already."""
        second = self._second_phase()
        vectors = second.vectors
        point = Point(vectors.position(), value, _scalar(value), vectors.gradient())
        if second.known is not None:
            second.history.append_unmeasured(*second.difference(second.known, point))
        second.stay(point, here=False)

    def _collect_within(self, run: _Counted, value: object, report: StepReport) -> None:
        """A first-order step, and one more closure call on the same batch at its end for y."""
        second = self._second_phase()
        vectors = second.vectors
        start = Point(vectors.position(), value, _scalar(value), vectors.gradient())
        self._first.step()
        end_value, loss = run()
        end = Point(vectors.position(), end_value, loss, vectors.gradient())
        pair = second.difference(start, end)
        second.history.append_unmeasured(*pair)
        report.set(loss_after=loss, pair="collected")

    # ---- second phase, and the blend
    def _second_order_step(self, run: _Counted, theta: float) -> tuple[object, list[Observation]]:
        report = StepReport(phase=PHASES.get(theta, "blend"), theta=theta)
        second = self._enter(report)
        start = second.start(run)
        report.set(loss=start.loss, grad_norm=start.grad_norm)
        value = start.value
        seen = Observation(self._calls + 1, start.loss_read, start.grad_norm**2, float(self._cosine))
        move = self._iterate if theta == 0.0 else self._blend
        move(second, start, run, report)
        report.set(evals=run.calls)
        self._report = report
        return value, [seen]

    def _iterate(self, second: SecondOrder, start: Point, run: _Counted, report: StepReport) -> None:
        """inner_steps L-BFGS iterations on one closure."""
        point, first_trial = start, self._first_trial()
        for inner in range(self._options.inner_steps):
            if inner:
                if not run.left:
                    break
                second.look(point)
            found = second.line_search(point, run, run.left, first_trial)
            report.set(step_length=found.t, stop_reason=found.stop_reason)
            if found.t == 0.0:
                break
            second.remember(point, found.end)
            point = found.end
            if found.stop_reason:
                break
        report.set(loss_after=point.loss, pair=second.pair_verdict())
        if math.isfinite(point.f):
            second.stay(point, here=True)

    def _blend(self, second: SecondOrder, start: Point, run: _Counted, report: StepReport) -> None:
        """x_{k+1} = θ x^A + (1 − θ) x^L, both from x_k (Algorithm 3); x^A alone where the search fails."""
        if not (math.isfinite(start.f) and math.isfinite(start.grad_norm)):
            report.set(stop_reason="non_finite")
            return
        theta, vectors = self._theta, second.vectors
        self._first.step()
        x_adam = vectors.position()
        vectors.restore(start.x)
        reserve = 0 if self._options.full_batch else 1  # the evaluation that gives y
        found = second.line_search(start, run, run.left - reserve)
        report.set(step_length=found.t, stop_reason=found.stop_reason)
        if found.t == 0.0:
            vectors.restore(x_adam)
        else:
            vectors.restore(theta * x_adam + (1.0 - theta) * found.end.x)
            a, b = x_adam - start.x, found.end.x - start.x
            self._cosine = torch.dot(a, b) / (torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
            report.set(cosine=self._cosine)
        if self._options.full_batch:
            second.stay(start, here=False)
        elif run.left:
            end = second.evaluate(run)
            report.set(loss_after=end.loss)
            second.remember(start, end)
            report.set(pair=second.pair_verdict())

    def _first_trial(self) -> float:
        """The first step of a line search along a quasi-Newton direction."""
        return 1.0

    def _enter(self, report: StepReport) -> SecondOrder:
        """The second phase's state. On its first call: fix the metric, sort the pairs that were handed over."""
        second = self._second_phase()
        if not second.vectors.matches():
            self._second = None  # the model was moved or cast: its history means nothing any more
            second = self._second_phase()
            self._entered = False
        if self._entered:
            return second
        self._entered = True
        moments = self._first if handovers.wants_metric(self._options.handover) else None
        second.rescale(handovers.metric(second.vectors, self.param_groups, moments))
        if second.history:
            report.set(handed_over=second.history.measure())
        if self._first is not None and self._first.decay() == "decoupled" and any(
            group.get("weight_decay", 0) for group in self.param_groups
        ):  # fmt: skip
            warnings.warn(f"{self._first.name}'s decoupled weight decay belongs to no objective: the second phase "
                          "leaves it out. Add λ/2·‖x‖² to the loss if it should count", stacklevel=4)  # fmt: skip
        return second

    def _second_phase(self) -> SecondOrder:
        """Its state, made when first asked for. The history's buffers are not allocated by this."""
        if self._second is None:
            self._second = self._new_second_phase()
        return self._second

    def _new_second_phase(self) -> SecondOrder:
        o = self._options
        vectors = Vectors(self.param_groups, self._first.decay() if self._first else "coupled")
        history = History(o.history_size, vectors.numel, vectors.dtype, vectors.device, o.history_dtype, o.damped)
        return SecondOrder(vectors, history, o.full_batch)

    # ---- without a closure
    def _check_closure_free(self) -> None:
        if self._theta == 1.0 and "loss" not in self._rule.reads:
            return
        why = "is L-BFGS's" if self._theta == 0.0 else "is blended" if self._theta < 1.0 else "needs the loss"
        raise RuntimeError(
            f"step(): closure is None, but this step {why} (switchover {str(self._rule)!r}, phase {self.phase!r}); "
            "allowed is a function that clears the gradients, computes the loss, calls backward and returns it. "
            "With a GradScaler, whose step() passes no closure: drop the scaler and run the closure under "
            "torch.autocast(dtype=torch.bfloat16), which needs none; or keep switchover='never'"
        )

    def _is_probe(self) -> bool:
        """Whether torch.distributed.checkpoint asks for the state to be made, by a step that moves nothing."""
        if self.state or any(float(group["lr"]) != 0.0 for group in self.param_groups):
            return False
        grads = (p.grad for group in self.param_groups for p in group["params"])
        return not any(bool(g.count_nonzero()) for g in grads if g is not None)

    def _fill_state(self) -> None:
        """Make the first phase's state without counting a step."""
        if self._first is None:
            return
        self._first.step()
        for state in self.state.values():
            for name, start in (("step", 0.0), ("mu_product", 1.0)):
                if isinstance(state.get(name), Tensor):
                    state[name].fill_(start)

    # ---- groups, state
    def add_param_group(self, param_group: dict) -> None:
        """Add a group. The second phase's history is of another space then and is cleared."""
        super().add_param_group(param_group)
        self._second, self._entered = None, False

    def allocate(self) -> None:
        """Make the state of both phases now, as a distributed checkpoint needs it to load into."""
        second = self._second_phase()
        second.history.allocate()
        several = len(self.param_groups) > 1
        if second.vectors.scale is None and (several or handovers.wants_metric(self._options.handover)):
            like = {"dtype": second.vectors.dtype, "device": second.vectors.device}
            second.rescale(torch.ones(second.vectors.numel, **like))

    def state_dict(self) -> dict:
        """The state of both phases and of the rule, as plain tensors and numbers under the parameters."""
        hook = self.register_state_dict_post_hook(Fuse._with_own_state, prepend=True)  # before the user's hooks
        try:
            return super().state_dict()
        finally:
            hook.remove()

    def _with_own_state(self, state_dict: dict) -> dict:
        numbers: dict[str, object] = {
            "calls": self._calls,
            "theta": self._theta,
            "collect": self._collect,
            "entered": self._entered,
            "cosine": float(self._cosine),
            "rule": encode(str(self._rule)),
            "first_order": encode(self._first.name if self._first else ""),
            **dict(flatten(self._memory, "memory")),
        }
        if self._options.check_every > 1:
            numbers["backlog"] = self._backlog.state(self._options.check_every)
            numbers["queued"] = len(self._backlog)
        pieces = {}
        if self._second is not None and self._second.in_use():
            more, vectors = self._second.state()
            numbers |= more
            pieces = {name: self._second.vectors.split(v) for name, v in vectors.items()}
        trainable = [p.requires_grad for group in self.param_groups for p in group["params"]]
        return insert(state_dict, numbers, pieces, home=trainable.index(True) if any(trainable) else 0)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what `state_dict` gave, or the state of a bare first-order optimizer of the same class.

        The constructor's rule stays in force; where the saved one was another, a warning says so.

        Raises:
            ValueError: the state is of another first_order, history_size or set of parameters. Nothing is
                changed then.
        """
        taken: list = []

        def take_out(opt: Fuse, state_dict: dict) -> dict:
            rest, numbers, pieces = extract(state_dict)
            taken.append(opt._prepared(numbers, pieces))
            return rest

        hook = self.register_load_state_dict_pre_hook(take_out)  # after the user's hooks
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        numbers, second = taken[0]
        self._second = second
        self._calls = int(numbers.get("calls", 0))
        self._theta = float(numbers.get("theta", self._rule.first()))
        self._collect = int(numbers.get("collect", 0))
        self._entered = bool(numbers.get("entered", False))
        self._cosine = float(numbers.get("cosine", math.nan))
        self._backlog.load(numbers.get("backlog"), int(numbers.get("queued", 0)))
        self._load_rule(numbers)

    def _prepared(self, numbers: dict, pieces: dict) -> tuple[dict, SecondOrder | None]:
        """The second phase that a saved state describes, checked; self is not changed."""
        if not numbers:
            return numbers, None
        name = self._first.name if self._first else ""
        saved = decode(numbers["first_order"])
        if saved != name:
            raise ValueError(f"state_dict: it was saved with first_order={saved or None}; allowed is {name or None}")
        if "slots" not in numbers:
            return numbers, None
        second = self._new_second_phase()
        lead = {"S": (self._options.history_size,), "Y": (self._options.history_size,)}
        order = range(len(second.vectors.params))
        try:
            vectors = {
                key: second.vectors.join([found[i] for i in order], lead.get(key, ()))
                for key, found in pieces.items()
            }
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"state_dict: its curvature history does not fit history_size={self._options.history_size} and "
                f"these parameters ({error})"
            ) from error
        second.load(numbers, vectors)
        return numbers, second

    def _load_rule(self, numbers: dict) -> None:
        """The saved memory of the same rule; of another one only the latch."""
        memory = unflatten(numbers, "memory")
        saved = decode(numbers["rule"]) if "rule" in numbers else str(self._rule)
        if saved == str(self._rule):
            self._memory = self._rule.memory() | memory
            return
        warnings.warn(f"switchover: the state was saved under {saved!r}; {str(self._rule)!r} of this optimizer stays "
                      "in force", stacklevel=3)  # fmt: skip
        self._memory = self._rule.memory()
        latched = bool(memory.get("latched", False))
        if self._rule.hard:
            self._memory["latched"] = latched
            if not self._collect:
                self._theta = 0.0 if latched else 1.0

    def __getstate__(self) -> dict:
        own = ("_first", "_rule", "_options", "_second", "_memory", "_backlog", "_calls", "_theta", "_collect",
               "_entered", "_cosine")  # fmt: skip
        return super().__getstate__() | {name: self.__dict__[name] for name in own} | {"_report": None}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._link()


class FusePV(Fuse):
    """Fuse with a hard switch: the paper's FUSE-PV (Algorithm 4). Takes criteria only, no θ schedules.

    >>> FusePV([torch.nn.Parameter(torch.zeros(2))], switchover="step:500").phase
    'first_order'
    """

    def __init__(self, params, lr: float | Tensor = 1e-3, **options) -> None:
        rule = parse(options.pop("switchover", DEFAULT_RULE))
        if not rule.hard:
            raise ValueError(f"switchover: got {str(rule)!r}, which blends; allowed for FusePV is a hard rule. Use Fuse")
        super().__init__(params, lr, switchover=rule, **options)


class LBFGS(Fuse):
    """The second phase alone: L-BFGS with the same history, line search and state as `Fuse`.

    Args:
        lr: the first trial step of each line search (1 is right for a quasi-Newton direction).
        weight_decay: λ adds λ/2 ‖x‖² to what is minimised.
        maximize: the closure's loss is to be made large.
        The others as for `Fuse`.
    """

    def __init__(
        self,
        params,
        lr: float | Tensor = 1,
        *,
        history_size: int = 10,
        line_search: str = "strong_wolfe",
        inner_steps: int = 1,
        max_evals: int = 25,
        full_batch: bool = False,
        history_dtype: torch.dtype | None = None,
        weight_decay: float = 0.0,
        maximize: bool = False,
        process_group: object = None,
        damped: bool = False,
    ) -> None:
        check_lr(lr)
        if not isinstance(weight_decay, int | float) or not 0.0 <= weight_decay < math.inf:
            raise ValueError(f"weight_decay: got {weight_decay!r}; allowed is a finite number ≥ 0")
        options = Options(
            handover="none", history_size=history_size, line_search=line_search, inner_steps=inner_steps,
            max_evals=max_evals, full_batch=full_batch, history_dtype=history_dtype,
            process_group=process_group, damped=damped,
        )  # fmt: skip
        defaults = {"lr": lr, "weight_decay": weight_decay, "maximize": maximize}
        self._setup(params, defaults, None, Always(), options)

    def _first_trial(self) -> float:
        return max(float(group["lr"]) for group in self.param_groups)


def _scalar(value: object) -> Tensor | float:
    """A closure's value as a 0-d tensor without history, or a float."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            raise ValueError(f"closure: it returned a {value.dtype} tensor of shape {tuple(value.shape)}; allowed is "
                             "one real number")  # fmt: skip
        return value.detach().reshape(())
    if isinstance(value, int | float):
        return float(value)
    raise TypeError(f"closure: it returned {value!r}; allowed is the loss, a float or a one-element tensor")


def _loss_of(value: object) -> Tensor | float | None:
    """For the report of a phase in which any value will do."""
    try:
        return _scalar(value)
    except (TypeError, ValueError):
        return None


def _valid_theta(theta: object, rule: Rule) -> float:
    if not (isinstance(theta, int | float) and 0.0 <= theta <= 1.0):
        raise ValueError(f"switchover: {rule} answered θ = {theta!r}; allowed is a number in [0, 1]")
    return float(theta)
