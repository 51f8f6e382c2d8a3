"""Fuse and FusePV: the optimizer, one step at a time.

One call of `step(closure)` is

    observe → θ → the phase's step, or both blended → report

and everything mathematical happens elsewhere: the first phase in torch's own optimizer (`first_order.py`), the second
in `second_order.py`, both at once in `blend.py`, what is observed in `watch.py`, the switch in `switchover.py` and the
rules that it names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from fuse_lib.optim import handover as handovers
from fuse_lib.optim import methods
from fuse_lib.optim.blend import blend
from fuse_lib.optim.checkpoint import Saved
from fuse_lib.optim.closure import Counted, scalar, scalar_or_none
from fuse_lib.optim.first_order import FirstOrder
from fuse_lib.optim.observation import Observation
from fuse_lib.optim.options import Options, check_lr, names_checked
from fuse_lib.optim.point import Point
from fuse_lib.optim.report import StepReport
from fuse_lib.optim.rule import Decision
from fuse_lib.optim.second_order import SecondOrder
from fuse_lib.optim.switchover import Never, Rule, parse
from fuse_lib.optim.vectors import Vectors
from fuse_lib.optim.watch import Watch

DEFAULT_RULE = "auto"
PHASES = {1.0: "first_order", 0.0: "second_order"}


class Fuse(Saved):
    """Start with a first-order optimizer, finish with L-BFGS, or blend the two (arXiv 2503.04204).

    Args:
        params: parameters, named parameters or groups, as for any torch optimizer.
        lr: of the first phase.
        switchover: a `Rule` or its string ("auto", "step:500", "gradnorm:1e-3:50", …; see `fuse_lib.switchover`).
            "auto" needs no threshold; with full_batch it is the one to begin with, and on noisy batches it stays with
            the first phase (see `auto.py`, also for what it costs there).
            A criterion makes it FUSE-PV (Algorithm 4), a θ schedule general FUSE (Algorithm 3).
        first_order: the first phase's class, any of torch's that needs no closure.
        first_order_args: what else that class takes, {"betas": (0.9, 0.99), "fused": True}.
        handover: what the second phase inherits: "none", "pairs", "metric" or "both" (see `handover.py`).
        history_size: m, the number of curvature pairs.
        line_search: "strong_wolfe".
        inner_steps: L-BFGS iterations in one call of the second phase, all on its closure.
        max_evals: the most closure calls in one call of `step`, at least 2.
        full_batch: your promise that the closure is one and the same function each time. Then an L-BFGS
            iteration costs one evaluation and pairs cost nothing. It is tested when
            the second phase begins and after each search that finds nothing; a broken promise raises.
        skip_nonfinite: leave out first-order steps whose loss or gradient is not finite. Rules that read
            values do so anyway, where they read them.
        check_every: how often, in calls, values are read from the device for the rule (which sees them all).
        history_dtype: of the stored pairs; torch.bfloat16 halves their memory.
        process_group: of DistributedDataParallel, whose losses are averaged (see `processes.py`). FSDP2 needs none.
        damped: mend curvature pairs of too little curvature (Powell) instead of leaving them out.
        second_order: the second phase's method, each with its own file and its own words on what it costs:
            "lbfgs"       L-BFGS (`quasi_newton.py`),
            "cg"          non-linear conjugate gradients (`conjugate_gradients.py`),
            "newton-cg"   truncated Newton; a Hessian-vector product is one closure call more (`newton_cg.py`),
            "adahessian"  AdaHessian, likewise; it has no line search, so the loss may go up (`adahessian.py`).
            The last two want a closure that uses one batch in all its calls within a step. history_size, history_dtype,
            damped and scaling are L-BFGS's, and so is the handover of pairs: the others take of it what they can use.
        second_order_args: what else that method takes, {"lr": 0.15} of AdaHessian.
        scaling: γ of the initial matrix H₀ = γI: "newest", sᵀy/yᵀy of the newest pair, as everywhere; or "adaptive",
            learned from the line searches (see `gram.py`), which pays with a long memory, from m = 30 or so.

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

    @names_checked
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
        scaling: str = "newest",
        second_order: str = "lbfgs",
        second_order_args: dict | None = None,
    ) -> None:
        options = Options(
            handover=handover, history_size=history_size, line_search=line_search, inner_steps=inner_steps,
            max_evals=max_evals, full_batch=full_batch, skip_nonfinite=skip_nonfinite, check_every=check_every,
            history_dtype=history_dtype, process_group=process_group, damped=damped, scaling=scaling,
            second_order=second_order, second_order_args=second_order_args,
        )  # fmt: skip
        check_lr(lr)
        first = FirstOrder(first_order, params, lr, {} if first_order_args is None else first_order_args)
        rule = self._taken(parse(switchover))
        if handover == "metric" and not first.has_second_moments():
            raise ValueError(f"handover: got 'metric'; allowed with {first.name}, which keeps no second moments, is "
                             "'none', 'pairs' or 'both'")  # fmt: skip
        if handover == "metric" and rule.first() < 1.0:
            raise ValueError(f"handover: got 'metric'; with switchover {str(rule)!r} no first-order step comes before "
                             "the second phase, so allowed is 'none', 'pairs' or 'both'")  # fmt: skip
        self._setup(first.optimizer.param_groups, first.optimizer.defaults, first, rule, options)

    def _taken(self, rule: Rule) -> Rule:
        """The rule, where this class takes it; ValueError otherwise."""
        return rule

    def _setup(self, groups, defaults: dict, first: FirstOrder | None, rule: Rule, options: Options) -> None:
        self._first, self._rule, self._options = first, rule, options
        self._second: SecondOrder | None = None
        self._collector = handovers.Collector(self._usable(), options.history_size, options.full_batch, rule)
        self._memory = rule.memory()
        self._watch = Watch(rule, options)
        self._calls = 0
        self._theta = _valid_theta(rule.first(), rule)
        self._entered = False  # whether the second phase has begun, and with it its metric is fixed
        self._report: StepReport | None = None
        super().__init__(groups, defaults)
        self._link()
        if not isinstance(rule, Never):
            self._second_phase()  # raises where it could not work

    _warned = False  # of other processes, which is done once; a copy may do it again

    # ---- what the user sees
    def __repr__(self) -> str:
        o = self._options
        memory = f"history_size: {o.history_size}" if o.second_order == "lbfgs" else f"second_order: {o.second_order}"
        own = f"switchover: {self._rule}, phase: {self.phase}, {memory}, full_batch: {o.full_batch}"
        return super().__repr__().replace(" (\n", f" ({own}\n", 1)

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
        """The rule in force."""
        return self._rule

    @property
    def decisions(self) -> list[Decision]:
        """What the rule decided so far, oldest first, where it keeps a log (`Auto`)."""
        return self._rule.decisions(self._memory)

    @property
    def last_step(self) -> StepReport | None:
        """What the last call did, or None before the first."""
        return self._report

    # ---- one step
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
        run = None if closure is None else Counted(closure, self._options.max_evals)
        if self._theta == 1.0:
            value, seen = self._first_order_step(run)
        else:
            value, seen = self._second_order_step(run)
        self._report.set(evals=run.calls if run else 0)
        self._count(seen)
        return value

    def _count(self, seen: list[Observation]) -> None:
        """The step is done: ask the rule about the next one."""
        self._calls += 1
        self._ask(seen)

    def _ask(self, seen: list[Observation]) -> None:
        """θ of the next call, from what was seen since the rule was asked last."""
        if self._collector.left:  # the rule has answered; these are the steps that collect pairs
            self._collector.left -= 1
            self._theta = 1.0 if self._collector.left else 0.0
            return
        if self._stays():
            return
        theta, decided = self._theta, self._memory.get("decided")
        for observation in seen:
            theta = _valid_theta(self._rule.theta(observation, self._memory), self._rule)
        if self._memory.get("decided") != decided:
            self._report.set(decision=self.decisions[-1].verdict)
        if theta == 0.0 < self._theta and self._rule.hard:
            self._collector.left = self._collector.delay()
        if theta == 1.0 and self._theta == 0.0 and self._rule.returns:
            self._leave()
        if not self._collector.left:
            self._theta = theta

    def _stays(self) -> bool:
        """Whether this is the second phase for good, so that the rule is not asked any more."""
        return self._theta == 0.0 and self._rule.hard and not self._rule.returns

    # ---- first phase
    def _first_order_step(self, run: Counted | None) -> tuple[object, list[Observation]]:
        value = None if run is None else run.value()
        self._report = report = StepReport(phase="first_order", theta=1.0, loss=scalar_or_none(value))
        seen, finite = [Observation(self._calls + 1)], True
        if self._watch.looks:
            loss = None if run is None else scalar(value)
            second = self._second_phase()
            seen, finite = self._watch.first_order(self._calls + 1, loss, self._first, second, report)
        if all(p.grad is None for group in self.param_groups for p in group["params"]):
            report.set(stop_reason="no_gradient")  # torch's optimizers say nothing; the step is theirs all the same
        if not finite:
            report.set(stop_reason="non_finite")
        elif run is not None and self._collector.wants(self._calls):
            self._collecting_step(run, value, seen, report)
        else:
            self._first.step()
        return value, seen

    def _collecting_step(self, run: Counted, value: object, seen: list[Observation], report: StepReport) -> None:
        """A first-order step whose curvature pair is kept for the second phase."""
        second = self._second_phase()
        start = self._collector.before(second, value)
        self._first.step()
        try:
            report.set(loss_after=self._collector.after(second, run, start), pair="collected")
        except BaseException:
            self._count(seen)  # the step is done; only the look back from its end failed
            raise

    # ---- second phase, and the blend
    def _second_order_step(self, run: Counted) -> tuple[object, list[Observation]]:
        report = StepReport(phase=self.phase, theta=self._theta)
        asked = not self._stays()  # what the rule is told is made only where it listens
        second = self._enter(report)
        start = second.start(run, reuse=self._theta == 0.0)
        value = start.value
        report.set(loss=start.loss_read, grad_norm=start.grad_norm)
        if not start.finite:
            report.set(stop_reason="non_finite")
        elif self._theta == 0.0:
            self._iterate(second, start, run, report)
        else:
            blend(self._theta, self._first, second, start, run, report)
        self._report = report
        return value, [self._watch.second_order(self._calls + 1, second, report, run.calls)] if asked else []

    def _iterate(self, second: SecondOrder, start: Point, run: Counted, report: StepReport) -> None:
        """inner_steps iterations on one closure (θ = 0)."""
        point = start
        for inner in range(self._options.inner_steps):
            if inner and not run.left:
                break
            if inner:
                point = point if point.evaluated else second.evaluate(run)
                second.look(point)
            found = second.iterate(point, run, run.left, self._first_trial())
            report.set(step_length=found.t, stop_reason=found.stop_reason)
            if found.t == 0.0:
                break
            second.remember(found)
            point = found.end
            if found.stop_reason:
                break
        if point.evaluated:
            report.set(loss_after=point.loss_read, pair=second.method.pair_verdict())
            second.stay(point, here=True)

    def _first_trial(self) -> float:
        """The first step of a line search, in units of what the direction suggests."""
        return 1.0

    def _enter(self, report: StepReport) -> SecondOrder:
        """The second phase's state. On its first call: fix the metric, sort the pairs that were handed over."""
        if self._second is not None and not self._second.vectors.matches():
            self._second, self._entered = None, False  # the model was cast or moved: the history is void
        second = self._second_phase()
        if self._entered:
            return second
        moments = self._first if handovers.wants_metric(self._usable()) else None
        second.rescale(handovers.metric(second.vectors, self.param_groups, moments))
        self._entered = True
        if (handed_over := second.method.measure()) is not None:
            report.set(handed_over=handed_over)
        self._warn(second)
        return second

    def _warn(self, second: SecondOrder) -> None:
        """Of what is likely not meant, when the second phase begins."""
        decayed = any(group.get("weight_decay", 0) for group in self.param_groups)
        if decayed and self._decoupled():
            warnings.warn(
                f"{self._first.name}'s decoupled weight decay belongs to no objective: the second phase leaves it "
                "out. Add λ/2·‖x‖² to the loss if it should count",
                stacklevel=7,
            )
        if not self._warned and second.vectors.processes.unnamed():
            self._warned = True
            warnings.warn(
                "process_group: got None, but torch.distributed runs with several processes, and each now decides by "
                "its own loss. If they train one model (DistributedDataParallel), pass "
                "process_group=torch.distributed.group.WORLD, otherwise they may wait for each other for ever; if "
                "they train separate models, this is fine",
                stacklevel=7,
            )

    def _leave(self) -> None:
        """Back to the first phase. Nothing is handed over: a metric is fixed for one phase, and pairs grow old."""
        self._second_phase().leave()
        self._entered = False

    def _second_phase(self) -> SecondOrder:
        """Its state, made when first asked for. The history's buffers are not allocated by this."""
        if self._second is None:
            self._second = self._new_second_phase()
        return self._second

    def _new_second_phase(self) -> SecondOrder:
        o = self._options
        vectors = Vectors(self.param_groups, self._decoupled(), o.process_group)
        method = methods.make(o.second_order, o.second_order_args, o.of_history, vectors)
        return SecondOrder(vectors, method, o.full_batch)

    def _decoupled(self) -> bool:
        return self._first is not None and self._first.decoupled()

    # ---- without a closure
    def _check_closure_free(self) -> None:
        if self._theta == 1.0 and "loss" not in self._rule.reads:
            return
        why = "is the second phase's" if self._theta == 0.0 else "is blended" if self._theta < 1.0 else "needs the loss"
        raise RuntimeError(
            f"step(): closure is None, but this step {why} (switchover {str(self._rule)!r}, phase {self.phase!r}); "
            "allowed is a function that clears the gradients, computes the loss, calls backward and returns it. "
            "First-order steps go without one under a rule that does not read the loss, such as 'step:1000'. "
            "With a GradScaler, whose step() passes no closure: drop the scaler and run the closure under "
            "torch.autocast(dtype=torch.bfloat16), which needs none; or keep switchover='never'"
        )

    def add_param_group(self, param_group: dict) -> None:
        """Add a group. The second phase's history is of another space then and is cleared.

        Raises:
            ValueError: it cannot share a vector with the others (device, maximize). It is not added then.
        """
        super().add_param_group(param_group)
        try:
            if not isinstance(self._rule, Never):
                Vectors(self.param_groups)
        except ValueError:
            del self.param_groups[-1]
            raise
        self._second, self._entered = None, False


class FusePV(Fuse):
    """Fuse with a hard switch: the paper's FUSE-PV (Algorithm 4). Takes criteria only, no θ schedules.

    The arguments are those of `Fuse`, which explains them all. The ten that are used most:

    Args:
        params: parameters, named parameters or groups, as for any torch optimizer.
        lr: of the first phase.
        switchover: when to switch: "auto", "step:500", "gradnorm:1e-3:50", … (see `fuse_lib.switchover`), or a `Rule`.
        full_batch: your promise that the closure is one and the same function each time; it saves evaluations.
        first_order: the first phase's class, such as torch.optim.AdamW.
        first_order_args: what that class takes beside lr, {"weight_decay": 1e-2}.
        handover: what the second phase inherits: "none", "pairs", "metric" or "both".
        history_size: the number of curvature pairs that L-BFGS keeps.
        max_evals: the most closure calls in one call of `step`, at least 2.
        process_group: of DistributedDataParallel, torch.distributed.group.WORLD as a rule.

    Raises:
        ValueError, TypeError: an argument that is not allowed; the message names it, its value and what is.

    >>> FusePV([torch.nn.Parameter(torch.zeros(2))], switchover="step:500").phase
    'first_order'
    """

    def _taken(self, rule: Rule) -> Rule:
        if not rule.hard:
            raise ValueError(
                f"switchover: got {str(rule)!r}, which blends; allowed for FusePV is a hard rule. Use Fuse"
            )
        return rule


def _valid_theta(theta: object, rule: Rule) -> float:
    if not (isinstance(theta, int | float) and 0.0 <= theta <= 1.0):
        raise ValueError(f"switchover: {rule} answered θ = {theta!r}; allowed is a number in [0, 1]")
    return float(theta)
