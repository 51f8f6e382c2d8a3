"""Hostile use: closures that fail, gradients that are not finite, models and groups that change in mid-run.

What has to hold whatever happens:

    a step makes at most max_evals closure calls and, where it made no step, says why
    in the second phase the loss never goes up from one finite point to the next, and parameters stay finite
    an exception leaves the parameters at the last accepted point, bit for bit, and the optimizer usable
    `Fuse(switchover="never")` is the bare torch optimizer, bit for bit
"""

import contextlib
import copy
import gc
import inspect
import io
import math
import pickle
import re
import warnings
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuse_lib import LBFGS, Fuse, FusePV
from fuse_lib.optim import switchover as rules

INF, NAN = math.inf, math.nan
HUGE, TINY = 1e38, 1e-38
PHASES = {"first": "never", "switch": "step:3", "blend": "theta:0.5", "second": "always"}
HANDOVERS = ("none", "pairs", "metric", "both")


# ---- the problem, and a closure that records and fails on demand
class Problem:
    """A small net on fixed data, and a closure whose call number `at` goes through `fault(value, params)`."""

    def __init__(self, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).to(dtype)
        for p in self.model.parameters():
            p.data = 0.5 * torch.randn(p.shape, generator=generator, dtype=dtype)
        self.x = torch.randn(24, 3, generator=generator, dtype=dtype)
        self.y = torch.sin(self.x.sum(1, keepdim=True))
        self.params = list(self.model.parameters())
        self.calls, self.points, self.fault, self.at = 0, [], None, None

    @property
    def position(self):
        return torch.cat([p.detach().reshape(-1) for p in self.params])

    def loss(self):
        return ((self.model(self.x.to(self.params[0].dtype)) - self.y.to(self.params[0].dtype)) ** 2).mean()

    def closure(self):
        self.calls += 1
        for p in self.params:
            p.grad = None
        loss = self.loss()
        loss.backward()
        value = loss
        if self.fault is not None and (self.at is None or self.calls == self.at):
            value = self.fault(loss, self.params)
        self.points.append((self.position, value.detach() if isinstance(value, torch.Tensor) else value))
        return value

    def fail(self, fault, at=1):
        """Let the coming closure call number `at` fail."""
        self.calls, self.points, self.fault, self.at = 0, [], fault, at


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what is computed here is tiny
    yield
    torch.set_num_threads(threads)


def fill_grad(number):
    def fault(loss, params):
        for p in params:
            if p.grad is not None:
                p.grad.fill_(number)
        return loss

    return fault


def one_grad(number):
    def fault(loss, params):
        params[0].grad.view(-1)[0] = number
        return loss

    return fault


def no_grads(loss, params):
    for p in params:
        p.grad = None
    return loss


def raising(error):
    def fault(loss, params):
        raise error("from the closure")

    return fault


def constant(value):
    return lambda loss, params: value


class Stop(Exception):
    pass


LOSSES = {
    "nan": lambda loss, params: loss * NAN,
    "inf": lambda loss, params: loss * INF,
    "minus inf": lambda loss, params: loss * -INF,
    "float nan": constant(NAN),
    "huge": lambda loss, params: loss.new_tensor(HUGE),
    "float huge": constant(1e300),
    "tiny": lambda loss, params: loss * TINY,
    "int": constant(3),
    "1-element": lambda loss, params: loss.reshape(1),
    "[1, 1]": lambda loss, params: loss.reshape(1, 1),
    "float": lambda loss, params: loss.item(),
    "bfloat16": lambda loss, params: loss.bfloat16(),
}
GRADIENTS = {
    "nan gradient": fill_grad(NAN),
    "one nan": one_grad(NAN),
    "inf gradient": fill_grad(INF),
    "one inf": one_grad(-INF),
    "zero gradient": fill_grad(0.0),
    "no gradient": no_grads,
    "huge gradient": fill_grad(1e30),
}
NO_LOSS = {
    "None": constant(None),
    "string": constant("1.0"),
    "2 elements": lambda loss, params: torch.stack([loss, loss]),
    "complex tensor": lambda loss, params: loss.to(torch.complex128),
    "complex": constant(1j),
    "empty": lambda loss, params: loss.new_zeros(0),
}


def make(problem, switchover="always", **options):
    return Fuse(problem.params, **({"lr": 0.02, "switchover": switchover} | options))


def steps(optimizer, problem, n):
    return [(optimizer.step(problem.closure), optimizer.last_step)[1].as_dict() for _ in range(n)]


def copied(optimizer, problem, how):
    """(optimizer, problem) that go on from a copy of the first ones."""
    if how == "deepcopy":
        return copy.deepcopy((optimizer, problem))
    other = Problem()
    other.model.load_state_dict(problem.model.state_dict())
    if how == "pickle":
        twin, params = pickle.loads(pickle.dumps((optimizer, problem.params)))
        other.params = params
        other.model[0].weight, other.model[0].bias, other.model[2].weight, other.model[2].bias = params
        return twin, other
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    o = optimizer._options
    twin = Fuse(other.params, lr=0.02, switchover=optimizer.switchover, handover=o.handover, full_batch=o.full_batch,
                max_evals=o.max_evals, inner_steps=o.inner_steps, history_size=o.history_size)  # fmt: skip
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    return twin, other


# ---- values
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("fault", [*LOSSES, *GRADIENTS])
def test_second_phase_survives_one_bad_evaluation(fault, at, full_batch):
    problem = Problem()
    optimizer = make(problem, "always", full_batch=full_batch)
    steps(optimizer, problem, 4)
    start, before = problem.position, problem.loss().item()
    problem.fail((LOSSES | GRADIENTS)[fault], at)
    optimizer.step(problem.closure)
    assert torch.isfinite(problem.position).all()
    problem.fault = None
    if not torch.equal(problem.position, start):
        assert any(torch.equal(problem.position, x) for x, _ in problem.points)
    elif at == 1 and not full_batch:
        assert optimizer.last_step.stop_reason is not None
    problem.fail(None)
    if (fault, at, full_batch) == ("tiny", 1, True):  # a loss that is too good to be true, under a promise
        with pytest.raises(RuntimeError, match="full_batch"):
            steps(optimizer, problem, 25)
    reports = steps(optimizer, problem, 25)
    assert problem.loss().item() < before
    assert all(math.isfinite(r["loss"]) for r in reports[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fault", ["nan", "inf", "minus inf", "nan gradient", "one inf"])
@pytest.mark.parametrize("switchover", ["always", "theta:0.5", "gradnorm:1e-30", "never"])
def test_a_bad_start_moves_nothing_and_says_so(switchover, fault, dtype):
    problem = Problem(dtype)
    optimizer = make(problem, switchover, skip_nonfinite=True)
    steps(optimizer, problem, 3)
    start = problem.position
    problem.fail((LOSSES | GRADIENTS)[fault])
    optimizer.step(problem.closure)
    assert torch.equal(problem.position, start)
    assert optimizer.last_step.stop_reason == "non_finite"
    assert optimizer.last_step.evals == 1


@pytest.mark.parametrize("kind", NO_LOSS)
@pytest.mark.parametrize(("switchover", "at"), [("always", 1), ("always", 2), ("theta:0.5", 1), ("theta:0.5", 2)])
def test_a_closure_without_a_loss_raises_and_moves_nothing(switchover, at, kind):
    problem = Problem()
    optimizer = make(problem, switchover)
    steps(optimizer, problem, 3)
    start = problem.position
    problem.fail(NO_LOSS[kind], at)
    with pytest.raises((TypeError, ValueError), match=r"closure: it returned .*allowed is"):
        optimizer.step(problem.closure)
    assert torch.equal(problem.position, start)
    problem.fail(None)
    steps(optimizer, problem, 3)


@pytest.mark.parametrize("kind", [*NO_LOSS, *LOSSES, *GRADIENTS])
@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.SGD])
def test_never_is_the_bare_optimizer_whatever_the_closure_gives(cls, kind):
    mine, bare = Problem(), Problem()
    optimizer = make(mine, "never", first_order=cls)
    reference = cls(bare.params, lr=0.02)
    for problem in (mine, bare):
        problem.fail((NO_LOSS | LOSSES | GRADIENTS)[kind], at=3)
    for _ in range(5):
        a, b = optimizer.step(mine.closure), reference.step(bare.closure)
        assert type(a) is type(b)
    assert torch.equal(mine.position.isnan(), bare.position.isnan())
    assert torch.equal(mine.position.nan_to_num(), bare.position.nan_to_num())


FUNCTIONS = {
    "constant": lambda x: 0.0 * x.sum() + 3.0,
    "unbounded": lambda x: 1e3 * x.sum(),
    "unbounded, flat": lambda x: 1e-3 * x.sum(),
    "kink": lambda x: x.abs().sum(),
    "jump": lambda x: (x**2).sum() + torch.where(x < 0.5, 5.0, 0.0).sum(),
    "wall": lambda x: torch.where(x < 0.5, torch.nan, x**2).sum(),
    "log": lambda x: -torch.log(x).sum() + x.sum(),
    "overflow": lambda x: torch.exp(40 * x).sum(),
    "quartic": lambda x: ((x - 1) ** 4).sum(),
    "steps": lambda x: torch.floor(x).sum() + 0.0 * x.sum(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_functions_never_go_up(name, full_batch, dtype):
    x = torch.nn.Parameter(torch.tensor([2.0, 0.7, 1.5], dtype=dtype))
    optimizer = LBFGS([x], full_batch=full_batch, max_evals=8)

    def closure():
        optimizer.zero_grad()
        loss = FUNCTIONS[name](x)
        loss.backward()
        return loss

    for _ in range(12):
        before = FUNCTIONS[name](x).item()
        optimizer.step(closure)
        after, report = FUNCTIONS[name](x).item(), optimizer.last_step
        assert torch.isfinite(x).all()
        assert after <= before
        assert report.evals <= 8
        assert report.step_length or report.stop_reason


def test_a_function_that_rises_ends_in_no_progress():
    """The gradient has the wrong sign: every trial is worse."""
    x = torch.nn.Parameter(torch.ones(3))
    optimizer = LBFGS([x])

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        x.grad.neg_()
        return loss

    reasons = []
    for _ in range(4):
        optimizer.step(closure)
        reasons.append(optimizer.last_step.stop_reason)
    assert reasons[0] in ("search_failed", "max_evals")
    assert reasons[1:] == 3 * ["no_progress"]
    assert torch.equal(x, torch.ones(3))


# ---- exceptions
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "state_dict"])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("handover", HANDOVERS)
def test_exceptions_at_every_evaluation_leave_an_accepted_point(handover, full_batch, error, how):
    problem = Problem()
    optimizer = make(problem, "step:4", handover=handover, full_batch=full_batch, history_size=3)
    for step in range(9):
        for at in (1, 2):
            start = problem.position
            trial, twin = copied(optimizer, problem, "deepcopy")
            twin.fail(raising(error), at)
            try:
                trial.step(twin.closure)
            except error:
                second_phase, collected = step >= 4, step < 4 and at == 2
                if second_phase:
                    assert torch.equal(twin.position, start)
                assert collected or torch.equal(twin.position, start)
            twin.fail(None)
            after, last = copied(trial, twin, how)
            steps(after, last, 2)
            assert torch.isfinite(last.position).all()
        steps(optimizer, problem, 1)


@pytest.mark.parametrize("inner_steps", [2, 5])
def test_an_exception_in_a_later_inner_step_keeps_the_earlier_ones(inner_steps):
    problem = Problem()
    optimizer = make(problem, "always", inner_steps=inner_steps)
    steps(optimizer, problem, 3)
    before, start = problem.loss().item(), problem.position
    problem.fail(raising(Stop), at=3)
    with pytest.raises(Stop):
        optimizer.step(problem.closure)
    assert not torch.equal(problem.position, start)
    assert any(torch.equal(problem.position, x) for x, _ in problem.points)
    assert problem.loss().item() < before


@pytest.mark.parametrize("full_batch", [False, True])
def test_an_exception_in_a_blend_leaves_the_start_or_the_blended_point(full_batch):
    for at in (1, 2, 3):
        problem = Problem()
        optimizer = make(problem, "theta:0.5", full_batch=full_batch, max_evals=3)
        steps(optimizer, problem, 3)
        start = problem.position
        problem.fail(raising(Stop), at)
        try:
            optimizer.step(problem.closure)
        except Stop:
            assert at == 3 or torch.equal(problem.position, start)
        problem.fail(None)
        steps(optimizer, problem, 3)
        assert torch.isfinite(problem.position).all()


def test_an_exception_in_the_promise_check_moves_nothing():
    problem = Problem()
    optimizer = make(problem, "always", full_batch=True)
    start = problem.position
    problem.fail(raising(Stop), at=2)
    with pytest.raises(Stop):
        optimizer.step(problem.closure)
    assert torch.equal(problem.position, start)
    problem.fail(None)
    steps(optimizer, problem, 1)
    assert problem.calls >= 3, "the promise is still to be checked"


def test_an_exception_in_a_blend_leaves_the_first_order_state():
    problem = Problem()
    optimizer = make(problem, "theta:0.5")
    steps(optimizer, problem, 3)
    problem.fail(raising(Stop), at=2)
    with pytest.raises(Stop):
        optimizer.step(problem.closure)
    assert float(optimizer.state[problem.params[0]]["step"]) == 3


def test_an_exception_while_a_pair_is_collected_adds_no_first_order_step():
    problem = Problem()
    optimizer = make(problem, "step:3", history_size=3)
    problem.fail(raising(Stop), at=2)
    with pytest.raises(Stop):
        optimizer.step(problem.closure)
    problem.fail(None)
    while optimizer.phase == "first_order":
        optimizer.step(problem.closure)
    assert float(optimizer.state[problem.params[0]]["step"]) == 3


# ---- any sequence of faults
FAULTS = {
    "good": None,
    "raise": raising(Stop),
    "interrupt": raising(KeyboardInterrupt),
    "string": constant("loss"),
    **{name: LOSSES[name] for name in ("nan", "inf", "minus inf", "huge")},
    **{name: GRADIENTS[name] for name in GRADIENTS if name != "zero gradient"},
}
BETWEEN = ("nothing", "overwrite", "zero_grad", "deepcopy", "state_dict", "lr", "freeze", "thaw")


def meddle(what, optimizer, problem):
    if what == "overwrite":
        with torch.no_grad():
            problem.params[0].mul_(0.9)
    elif what == "zero_grad":
        optimizer.zero_grad()
    elif what == "lr":
        optimizer.param_groups[0]["lr"] *= 0.5
    elif what in ("freeze", "thaw"):
        problem.params[1].requires_grad_(what == "thaw")
        problem.params[1].grad = None
    elif what in ("deepcopy", "state_dict"):
        frozen = not problem.params[1].requires_grad
        optimizer, problem = copied(optimizer, problem, what)
        problem.params[1].requires_grad_(not frozen)
    return optimizer, problem


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    switchover=st.sampled_from(
        ["step:3", "always", "theta:0.5", "theta:linear:4", "gradnorm:1e9:2", "theta:aligned", "auto"]
    ),
    handover=st.sampled_from(["none", "pairs", "both"]),
    full_batch=st.booleans(),
    max_evals=st.sampled_from([2, 3, 10]),
    inner_steps=st.sampled_from([1, 3]),
    history_size=st.sampled_from([1, 3]),
    script=st.lists(
        st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(1, 4), st.sampled_from(BETWEEN)), min_size=3, max_size=12
    ),
)
def test_any_sequence_of_faults(switchover, handover, full_batch, max_evals, inner_steps, history_size, script):
    problem = Problem()
    optimizer = make(problem, switchover, handover=handover, full_batch=full_batch, max_evals=max_evals,
                     inner_steps=inner_steps, history_size=history_size, skip_nonfinite=True)  # fmt: skip
    if full_batch and switchover.startswith("theta"):
        steps(optimizer, problem, 2)  # past the promise check, see the next test
    for fault, at, between in script:
        problem.fail(FAULTS[fault], at)
        start, phase, evals = problem.position, optimizer.phase, None
        try:
            optimizer.step(problem.closure)
            evals = optimizer.last_step.evals
        except (Stop, KeyboardInterrupt, TypeError):
            pass
        except RuntimeError as error:
            assert "full_batch" in str(error)  # noqa: PT017
        assert problem.calls <= max_evals
        assert evals in (None, problem.calls)
        assert torch.isfinite(problem.position).all()
        if phase == "second_order" and not torch.equal(problem.position, start):
            here = [value for x, value in problem.points if torch.equal(x, problem.position)]
            assert here, "an accepted point was evaluated"
            assert any(math.isfinite(float(value)) for value in here if not isinstance(value, str))
        if phase == "second_order" and evals is not None and not optimizer.last_step.step_length:
            assert optimizer.last_step.stop_reason is not None
            assert inner_steps > 1 or torch.equal(problem.position, start)
        problem.fail(None)
        optimizer, problem = meddle(between, optimizer, problem)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(optimizer, problem, 2)


def test_a_gradient_of_nan_in_the_promise_check_does_not_reach_a_blend():
    problem = Problem()
    optimizer = make(problem, "theta:0.5", full_batch=True)
    problem.fail(one_grad(NAN), at=2)
    with contextlib.suppress(RuntimeError):
        optimizer.step(problem.closure)
    assert torch.isfinite(problem.position).all()


# ---- budgets
@pytest.mark.parametrize("max_evals", [2, 3])
@pytest.mark.parametrize("inner_steps", [1, 3, 10])
@pytest.mark.parametrize("switchover", ["step:3", "always", "theta:0.5", "gradnorm:1e9:2", "theta:linear:5", "auto"])
@pytest.mark.parametrize("full_batch", [False, True])
def test_never_more_calls_than_max_evals(switchover, full_batch, inner_steps, max_evals):
    problem = Problem()
    optimizer = make(problem, switchover, full_batch=full_batch, inner_steps=inner_steps, max_evals=max_evals)
    for _ in range(20):
        problem.fail(None)
        optimizer.step(problem.closure)
        assert problem.calls == optimizer.last_step.evals <= max_evals


class Seen(rules.Criterion):
    """Met at iteration k; writes down what it is asked."""

    reads = ("loss", "grad_norm_sq")

    def __init__(self, k):
        self.k, self.iterations = k, []

    def met(self, seen, memory):
        self.iterations.append(seen.iteration)
        return seen.iteration >= self.k

    def __repr__(self):
        return f"Seen({self.k})"


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("handover", ["none", "pairs"])
@pytest.mark.parametrize("check_every", [1, 2, 7])
@pytest.mark.parametrize("k", [1, 3, 7, 8])
def test_the_rule_sees_every_call_and_switches_when_it_should(k, check_every, handover, full_batch):
    problem, rule = Problem(), Seen(k)
    optimizer = make(problem, rule, check_every=check_every, handover=handover, full_batch=full_batch, history_size=4)
    phases = []
    for _ in range(20):
        phases.append(optimizer.phase)
        optimizer.step(problem.closure)
    asked = check_every * math.ceil(k / check_every)
    collecting = 4 if handover == "pairs" and not full_batch else 0
    assert phases.index("second_order") == asked + collecting
    assert rule.iterations == list(range(1, k + 1))


# ---- rules of one's own
@pytest.mark.parametrize("answer", [NAN, -0.1, 1.5, None, "1", 1j])
def test_a_rule_that_answers_nonsense_is_named(answer):
    class Bad(rules.Rule):
        def theta(self, seen, memory):
            return answer

    problem = Problem()
    optimizer = make(problem, Bad())
    with pytest.raises(ValueError, match=r"switchover: .*Bad.* answered .*allowed is a number in \[0, 1\]"):
        optimizer.step(problem.closure)
    assert optimizer.phase == "first_order"
    assert torch.isfinite(problem.position).all()


def test_a_rule_that_raises_leaves_the_optimizer_usable():
    class Raises(rules.Rule):
        def theta(self, seen, memory):
            if seen.iteration == 2:
                raise Stop
            return 0.5

    problem = Problem()
    optimizer = make(problem, Raises())
    steps(optimizer, problem, 1)
    with pytest.raises(Stop):
        optimizer.step(problem.closure)
    assert steps(optimizer, problem, 3)[-1]["phase"] == "blend"


def test_one_rule_serves_two_optimizers():
    shared = rules.GradientNorm(1e9, 3)
    alone, together = Problem(), (Problem(), Problem(seed=1))
    first = make(alone, rules.GradientNorm(1e9, 3))
    pair = [make(problem, shared) for problem in together]
    steps(first, alone, 20)
    for _ in range(20):
        for optimizer, problem in zip(pair, together, strict=True):
            optimizer.step(problem.closure)
    assert torch.equal(alone.position, together[0].position)


class ZeroThenHalf(rules.Rule):
    """θ = 0, ½, 0, ½, …: goes back from the second phase to a blend."""

    def first(self):
        return 0.0

    def theta(self, seen, memory):
        return 0.5 if seen.iteration % 2 else 0.0


def test_a_blend_from_a_reused_point_has_that_points_gradient():
    runs = []
    for zero_grad in (False, True):
        problem = Problem()
        optimizer = make(problem, ZeroThenHalf(), full_batch=True)
        for _ in range(6):
            optimizer.step(problem.closure)
            if zero_grad:
                optimizer.zero_grad()
        runs.append(problem.position)
    assert torch.equal(*runs)


# ---- reading changes nothing
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", ["step:4", "gradnorm:1e9:3", "theta:0.5", "always", "never", "auto"])
def test_looking_at_a_run_does_not_change_it(switchover, full_batch):
    quiet, watched = Problem(), Problem()
    a = make(quiet, switchover, full_batch=full_batch, handover="pairs", check_every=2)
    b = make(watched, switchover, full_batch=full_batch, handover="pairs", check_every=2)
    for _ in range(14):
        a.step(quiet.closure)
        b.step(watched.closure)
        _ = b.state_dict(), repr(b.last_step), repr(b), b.phase, b.theta, b.last_step.as_dict()
        assert torch.equal(quiet.position, watched.position)


# ---- the model and its groups change in mid-run
CHANGING = ["step:3", "auto", "always", "theta:0.5", "gradnorm:1e9:3", "theta:linear:5"]


@pytest.mark.parametrize("n", [1, 3, 5, 9])
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", CHANGING)
def test_parameters_overwritten_in_mid_run(switchover, full_batch, n):
    problem = Problem()
    optimizer = make(problem, switchover, full_batch=full_batch, handover="both" if switchover != "always" else "pairs")
    steps(optimizer, problem, n)
    fresh = Problem(seed=7)
    problem.model.load_state_dict(fresh.model.state_dict())
    expected = problem.loss().item()
    assert optimizer.step(problem.closure).item() == expected
    for p, q in zip(problem.params, fresh.params, strict=True):
        p.data = q.data.clone()
    assert optimizer.step(problem.closure).item() == expected
    steps(optimizer, problem, 30)
    assert problem.loss().item() < expected


@pytest.mark.parametrize("n", [1, 3, 5, 9])
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", CHANGING)
def test_model_cast_in_mid_run(switchover, full_batch, n):
    problem = Problem(torch.float32)
    optimizer = make(problem, switchover, full_batch=full_batch, first_order=torch.optim.SGD, check_every=2)
    steps(optimizer, problem, n)
    problem.model.double()
    optimizer.zero_grad()
    steps(optimizer, problem, 10)
    assert problem.position.dtype == torch.float64
    assert torch.isfinite(problem.position).all()
    copied(optimizer, problem, "deepcopy")


@pytest.mark.parametrize("n", [0, 1, 3, 5, 9])
@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", CHANGING)
def test_group_added_in_mid_run(switchover, full_batch, n):
    problem, extra = Problem(), torch.nn.Parameter(torch.ones(2, dtype=torch.float32))
    optimizer = make(problem, switchover, full_batch=full_batch, check_every=2)

    def closure():
        extra.grad = None
        return problem.closure() + penalty()

    def penalty():
        loss = (extra.double() ** 2).sum()
        loss.backward()
        return loss.detach()

    for _ in range(n):
        optimizer.step(closure)
    optimizer.add_param_group({"params": [extra]})
    for _ in range(20):
        optimizer.step(closure)
    assert extra.norm() < 1.4
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.step(closure)


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", ["step:3", "always"])
def test_frozen_in_mid_run_with_a_stale_gradient_stays(switchover, full_batch):
    problem = Problem()
    optimizer = make(problem, switchover, full_batch=full_batch)
    steps(optimizer, problem, 5)
    frozen, stale = problem.params[0], problem.params[0].grad.clone()
    before = frozen.detach().clone()

    def closure():
        frozen.requires_grad_(False)
        loss = problem.closure()
        frozen.grad = stale
        return loss

    frozen.requires_grad_(False)
    for _ in range(4):
        optimizer.step(closure)
    assert torch.equal(frozen, before)
    frozen.requires_grad_(True)
    steps(optimizer, problem, 3)
    assert not torch.equal(frozen, before)


def test_frozen_in_a_blend_with_a_stale_gradient_stays():
    problem = Problem()
    optimizer = make(problem, "theta:0.5")
    steps(optimizer, problem, 3)
    frozen, stale = problem.params[0], problem.params[0].grad.clone()
    frozen.requires_grad_(False)
    before = frozen.detach().clone()

    def closure():
        loss = problem.closure()
        frozen.grad = stale
        return loss

    optimizer.step(closure)
    assert torch.equal(frozen, before)


@pytest.mark.parametrize(("name", "value"), [("weight_decay", 0.5), ("maximize", True)])
@pytest.mark.parametrize("full_batch", [False, True])
def test_objective_changed_in_mid_run(full_batch, name, value):
    """At the minimum of the old objective the new one has a gradient, and the next step follows it."""
    x = torch.nn.Parameter(torch.full((3,), 2.0, dtype=torch.float64))
    optimizer = LBFGS([x], full_batch=full_batch)

    def closure():
        optimizer.zero_grad()
        loss = torch.cosh(x - 1).sum()
        loss.backward()
        return loss

    for _ in range(12 if name == "weight_decay" else 1):
        optimizer.step(closure)
    optimizer.param_groups[0][name] = value
    start = (x.detach() - 1).abs()
    optimizer.step(closure)
    assert optimizer.last_step.step_length > 0
    if name == "maximize":
        assert bool(((x - 1).abs() > start).all())
    else:
        assert optimizer.last_step.grad_norm == pytest.approx(0.5 * math.sqrt(3), rel=1e-3)
        assert x.norm() < 0.9 * math.sqrt(3)


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
def test_coupled_decay_and_maximize_are_the_explicit_objective(cls, full_batch):
    implicit, explicit = Problem(), Problem()
    a = make(implicit, "always", first_order=cls, full_batch=full_batch,
             first_order_args={"weight_decay": 0.1, "maximize": True})  # fmt: skip
    b = make(explicit, "always", first_order=cls, full_batch=full_batch)
    plain = implicit.loss
    implicit.loss = lambda: -plain()
    other = explicit.loss
    explicit.loss = lambda: other() + 0.05 * sum((p**2).sum() for p in explicit.params)
    steps(a, implicit, 12)
    steps(b, explicit, 12)
    torch.testing.assert_close(implicit.position, explicit.position, rtol=1e-6, atol=1e-7)


def test_maximize_of_one_group_changed_in_mid_run_is_refused():
    problem = Problem()
    optimizer = Fuse([{"params": problem.params[:2]}, {"params": problem.params[2:]}], switchover="always")
    steps(optimizer, problem, 2)
    optimizer.param_groups[1]["maximize"] = True
    with pytest.raises(ValueError, match="maximize"):
        optimizer.step(problem.closure)


def test_a_group_that_cannot_be_added_is_not_added():
    problem = Problem()
    optimizer = Fuse(problem.params[:2], switchover="always")
    with pytest.raises(ValueError, match="maximize"):
        optimizer.add_param_group({"params": problem.params[2:], "maximize": True})
    assert len(optimizer.param_groups) == 1


FIRST_ORDER = {
    "Adam": {}, "AdamW": {}, "SGD": {"momentum": 0.9}, "RMSprop": {"centered": True}, "NAdam": {}, "RAdam": {},
    "Adagrad": {}, "Adadelta": {}, "Adamax": {}, "ASGD": {}, "Rprop": {}, "Adafactor": {}, "Muon": {},
}  # fmt: skip


@pytest.mark.parametrize("extra", [{}, {"maximize": True}, {"weight_decay": 0.1}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_never_is_the_bare_optimizer_through_everything(name, extra):
    """Groups added, frozen, rescheduled and reloaded, missing and NaN gradients, steps with and without closure."""
    cls, args = getattr(torch.optim, name, None), FIRST_ORDER[name] | extra
    if cls is None or not set(args) <= set(inspect.signature(cls).parameters):
        pytest.skip(f"torch {torch.__version__} has no {name} with {extra}")
    paths = ([], [])
    for mine in (False, True):
        problem = Problem()
        early, late = ([problem.params[0]], [problem.params[2]]) if name == "Muon" else (
            problem.params[:3], problem.params[3:])  # fmt: skip
        optimizer = (
            Fuse(early, lr=0.01, switchover="never", first_order=cls, first_order_args=args)
            if mine
            else cls(early, lr=0.01, **args)
        )
        schedule = None
        problem.fail(lambda loss, params, p=problem: (no_grads if p.calls == 5 else one_grad(NAN))(loss, params)
                     if p.calls in (5, 14) else loss, at=None)  # fmt: skip
        for k in range(16):
            if k == 3:
                optimizer.add_param_group({"params": late, "lr": 0.003})
                schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
            if k in (6, 8):
                problem.params[0].requires_grad_(k == 8)
            if k == 9:
                optimizer.param_groups[0]["lr"] = 0.02
            if k == 10 and name != "NAdam":  # whose mu_product torch casts on loading; we keep its dtype
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            if k % 3:
                optimizer.step(problem.closure)
            else:
                problem.closure()
                optimizer.step()
            if schedule is not None:
                schedule.step()
            paths[mine].append(problem.position)
    torch.testing.assert_close(*map(torch.stack, paths), rtol=0, atol=0, equal_nan=True)
    assert torch.isfinite(paths[0][12]).all()


SCHEDULERS = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 6),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.05, total_steps=20),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.0),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "warm restarts": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
}


@pytest.mark.parametrize("handover", ["pairs", "both"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_across_the_switch(name, handover):
    mine, bare = Problem(), Problem()
    optimizer = make(mine, "step:6", handover=handover)
    reference = torch.optim.Adam(bare.params, lr=0.02)
    schedules = [SCHEDULERS[name](o) for o in (optimizer, reference)]
    for k in range(15):
        if k == 6:
            assert torch.equal(mine.position, bare.position)
            before = mine.loss().item()
        for o, problem, schedule in zip((optimizer, reference), (mine, bare), schedules, strict=True):
            loss = o.step(problem.closure)
            schedule.step(*([loss.item()] if name == "plateau" else []))
    assert mine.loss().item() < before


# ---- shapes and dtypes
def zoo(name):
    torch.manual_seed(3)
    return {
        "float16": [torch.randn(4).half()],
        "bfloat16": [torch.randn(4).bfloat16()],
        "mixed": [torch.randn(3).half(), torch.randn(3).double(), torch.randn(2).bfloat16()],
        "empty and full": [torch.zeros(0), torch.randn(3)],
        "all empty": [torch.zeros(0)],
        "complex": [torch.randn(3, dtype=torch.complex64), torch.randn(2)],
        "channels last": [torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)],
        "transposed": [torch.randn(5, 4).t()],
        "strided": [torch.randn(10)[::2]],
        "scalar": [torch.tensor(2.0), torch.randn(2)],
    }[name]


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", ["step:3", "always", "theta:0.5"])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "mixed", "empty and full", "all empty", "complex",
                                  "channels last", "transposed", "strided",
                                  "scalar"])  # fmt: skip
def test_shapes_and_dtypes(name, switchover, full_batch):
    params = [torch.nn.Parameter(t) for t in zoo(name)]
    optimizer = Fuse(params, lr=0.01, switchover=switchover, full_batch=full_batch)

    def loss():
        return sum(((p.abs() if p.is_complex() else p).double() ** 2).sum() for p in params)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    before = loss().item()
    for _ in range(15):
        optimizer.step(closure)
    assert loss().item() <= 0.5 * before
    saved = copy.deepcopy(optimizer.state_dict())
    twin = Fuse([torch.nn.Parameter(p.detach().clone()) for p in params], switchover=switchover, full_batch=full_batch)
    twin.load_state_dict(saved)


@pytest.mark.parametrize("switchover", ["never", "step:3", "always", "theta:0.5"])
def test_sparse_gradients(switchover):
    torch.manual_seed(0)
    table = torch.nn.Embedding(6, 3, sparse=True)
    optimizer = Fuse(table.parameters(), lr=0.1, switchover=switchover, first_order=torch.optim.SGD)
    rows = torch.tensor([0, 2, 2, 5])

    def closure():
        optimizer.zero_grad()
        loss = (table(rows) ** 2).sum()
        loss.backward()
        return loss

    before, untouched = (table(rows) ** 2).sum().item(), table.weight[1].detach().clone()
    for _ in range(10):
        optimizer.step(closure)
    assert (table(rows) ** 2).sum().item() < before
    assert torch.equal(table.weight[1], untouched)


# ---- lr
@pytest.mark.parametrize("frozen", [0, 1])
def test_a_group_with_lr_0_stays(frozen):
    problem = Problem()
    groups = [{"params": problem.params[:2]}, {"params": problem.params[2:]}]
    groups[frozen]["lr"] = 0.0
    optimizer = Fuse(groups, lr=0.02, switchover="step:3")
    before = [p.detach().clone() for p in groups[frozen]["params"]]
    steps(optimizer, problem, 10)
    assert all(map(torch.equal, groups[frozen]["params"], before))


def test_lbfgs_with_lr_0_says_that_it_made_no_step():
    problem = Problem()
    optimizer = LBFGS(problem.params, lr=0.0)
    optimizer.step(problem.closure)
    assert optimizer.last_step.stop_reason is not None


# ---- numbers out of range
def test_a_pair_that_is_not_finite_does_not_spoil_the_direction():
    problem = Problem()
    optimizer = make(problem, "step:6", history_size=6)
    steps(optimizer, problem, 2)
    problem.fail(GRADIENTS["nan gradient"], at=2)  # where the pair is completed
    steps(optimizer, problem, 4)
    report = steps(optimizer, problem, 1)[0]
    assert report["handed_over"][1] == 6
    assert report["stop_reason"] is None
    assert report["step_length"] > 0


@pytest.mark.parametrize("handover", ["metric", "both"])
def test_a_metric_from_overflowed_moments_is_finite(handover):
    problem = Problem(torch.float32)
    optimizer = make(problem, "step:3", handover=handover)
    problem.fail(one_grad(1e21))
    steps(optimizer, problem, 3)
    assert torch.isfinite(problem.position).all()
    assert steps(optimizer, problem, 1)[0]["stop_reason"] != "non_finite"


@pytest.mark.parametrize("scale", [1e21, 1e-20])
def test_the_scale_of_a_float32_loss_does_not_matter(scale):
    x = torch.nn.Parameter(torch.tensor([3.0, 2.0]))
    optimizer = LBFGS([x])

    def closure():
        optimizer.zero_grad()
        loss = scale * ((x - 1) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(60):
        optimizer.step(closure)
    torch.testing.assert_close(x.detach(), torch.ones(2), atol=1e-3, rtol=0)


def test_a_norm_beyond_float32_does_not_make_the_first_trial_zero():
    x = torch.nn.Parameter(torch.ones(4))
    optimizer = LBFGS([x])

    def closure():
        optimizer.zero_grad()
        loss = (1e38 * x.double()).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.last_step.step_length > 0
    assert x.max() < 1


@pytest.mark.parametrize("handover", HANDOVERS)
def test_a_gradient_whose_square_overflows_float32_is_finite_in_a_metric_too(handover):
    x = torch.nn.Parameter(torch.tensor([3.0, 2.0]))
    optimizer = Fuse([x], lr=0.02, switchover="step:2", handover=handover)

    def closure():
        optimizer.zero_grad()
        loss = 1e24 * ((x - 1) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    report = optimizer.last_step
    assert report.stop_reason is None
    assert report.grad_norm == pytest.approx(2e24 * math.sqrt(5.0))  # Adam, whose moments overflow, did not move


def test_a_float_loss_beyond_float32_is_an_observation():
    problem = Problem(torch.float32)
    optimizer = make(problem, "gradnorm:1e-9")
    problem.fail(constant(1e39))
    optimizer.step(problem.closure)


def test_never_takes_an_integer_of_any_size():
    problem = Problem()
    problem.fail(constant(10**400), at=None)
    assert make(problem, "never").step(problem.closure) == 10**400


def test_inner_products_keep_float64():
    runs = []
    for dtype in (torch.float32, torch.float64):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            problem = Problem(torch.float64)
            steps(make(problem, "always"), problem, 20)
        finally:
            torch.set_default_dtype(before)
        runs.append(problem.position)
    assert torch.equal(*runs)


def test_a_default_device_changes_nothing():
    problem = Problem()
    optimizer = make(problem, "always")

    def closure():
        with torch.device("cpu"):
            return problem.closure()

    with torch.device("meta"):
        for _ in range(3):
            optimizer.step(closure)


def test_a_search_that_runs_away_ends_at_a_finite_point():
    x = torch.nn.Parameter(torch.zeros(2))
    optimizer = LBFGS([x], max_evals=100)

    def closure():
        optimizer.zero_grad()
        loss = (1e-12 * x).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.isfinite(x).all()
    assert x.max() < 0


def test_a_blend_leaves_out_a_first_order_step_that_overflows():
    x = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    optimizer = Fuse([x], lr=1e38, switchover="theta:0.5", first_order=torch.optim.SGD)

    def closure():
        optimizer.zero_grad()
        loss = (100 * x**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.isfinite(x).all()


# ---- closures with habits
def test_a_closure_that_steps_the_optimizer_itself():
    problem = Problem()
    optimizer = make(problem, "always")
    outside = True

    def closure():
        nonlocal outside
        loss = problem.closure()
        if outside:
            outside = False
            optimizer.step(closure)
            outside = True
        return loss

    before = problem.loss().item()
    for _ in range(3):
        optimizer.step(closure)
    assert problem.loss().item() < before


def test_a_closure_that_projects_the_parameters():
    x = torch.nn.Parameter(torch.tensor([2.0, 3.0]))
    optimizer = LBFGS([x])

    def closure():
        with torch.no_grad():
            x.clamp_(min=0.5)
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    assert torch.equal(x, torch.full((2,), 0.5))


@pytest.mark.parametrize("full_batch", [False, True])
def test_a_closure_that_reuses_its_output(full_batch):
    """As CUDA graphs and torch.compile(mode="reduce-overhead") do: one buffer holds the newest loss."""
    problem, buffer = Problem(), torch.zeros((), dtype=torch.float64)
    optimizer = make(problem, "always", full_batch=full_batch)

    def closure():
        return buffer.copy_(problem.closure().detach())

    for _ in range(10):
        expected = problem.loss().item()
        optimizer.step(closure)
        assert optimizer.last_step.loss == pytest.approx(expected, rel=1e-12)


def test_a_forgotten_return_under_a_rule_that_reads_the_loss_raises():
    problem = Problem()
    optimizer = make(problem, "losschange:1e9:2")
    problem.fail(constant(None), at=None)
    with pytest.raises(TypeError, match="closure: it returned None"):
        optimizer.step(problem.closure)


@pytest.mark.parametrize("switchover", ["never", "always", "theta:0.5", "gradnorm:1e-9"])
def test_closure_under_no_grad(switchover):
    inside, outside = Problem(), Problem()
    with torch.no_grad():
        steps(make(inside, switchover), inside, 6)
    steps(make(outside, switchover), outside, 6)
    assert torch.equal(inside.position, outside.position)


def test_autocast_in_the_closure():
    problem = Problem(torch.float32)
    loss = problem.loss

    def under_autocast():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss()

    problem.loss = under_autocast
    before = loss().item()
    steps(make(problem, "step:5"), problem, 25)
    assert loss().item() < before


def test_grad_scaler():
    mine, bare = Problem(torch.float32), Problem(torch.float32)
    pairs = [(make(mine, "never"), mine), (torch.optim.Adam(bare.params, lr=0.02), bare)]
    scalers = [torch.amp.GradScaler("cpu", init_scale=1024.0) for _ in pairs]
    for k in range(6):
        for (optimizer, problem), scaler in zip(pairs, scalers, strict=True):
            optimizer.zero_grad()
            scaler.scale(problem.loss()).backward()
            if k == 2:
                problem.params[0].grad.fill_(INF)
            scaler.step(optimizer)
            scaler.update()
    assert torch.equal(mine.position, bare.position)
    optimizer = make(mine, "always")
    scaler = scalers[0]
    scaler.scale(mine.loss()).backward()
    with pytest.raises(RuntimeError, match="GradScaler"):
        scaler.step(optimizer)


def test_two_optimizers_on_one_model():
    problem = Problem()
    a, b = make(problem, "always", full_batch=True), make(problem, "step:4", full_batch=True)
    losses = []
    for _ in range(10):
        for optimizer in (a, b):
            expected = problem.loss().item()
            losses.append(optimizer.step(problem.closure).item())
            assert losses[-1] == expected
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("switchover", PHASES.values())
def test_no_graph_and_no_object_is_kept(switchover, full_batch):
    problem, alive = Problem(), []
    optimizer = make(problem, switchover, full_batch=full_batch)
    problem.model[0].register_forward_hook(lambda module, inputs, output: alive.append(weakref.ref(output)))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            optimizer.step(problem.closure)
            problem.points.clear()
        assert not any(ref() for ref in alive)
        alive.clear()
        before = len(gc.get_objects())
        for _ in range(50):
            optimizer.step(problem.closure)
            problem.points.clear()
            alive.clear()
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


# ---- broken promises
def test_the_promise_is_not_kept_by_a_loss_of_nan():
    problem = Problem()
    optimizer = make(problem, "always", full_batch=True)

    def drifting(loss, params):
        return fill_grad(NAN)(loss * NAN, params) if problem.calls <= 2 else loss * (1 + 0.1 * problem.calls)

    problem.fail(drifting, at=None)
    with pytest.raises(RuntimeError, match="full_batch"):
        steps(optimizer, problem, 3)


def test_the_promise_is_checked_on_a_loss_of_half_precision():
    problem = Problem(torch.float32)
    optimizer = make(problem, "always", full_batch=True)
    problem.fail(lambda loss, params: (loss * problem.calls).bfloat16(), at=None)
    with pytest.raises(RuntimeError, match="full_batch"):
        steps(optimizer, problem, 2)


# ---- loading
def saved_after(n, switchover="step:2", **options):
    problem = Problem()
    optimizer = make(problem, switchover, **options)
    steps(optimizer, problem, n)
    return copy.deepcopy(optimizer.state_dict())


KEYS = ("failures",)
UNCHECKED = ("calls", "theta", "collect", "cosine", "rule", "first_order", "slots", "sy", "yy", "S", "of_g", "entered",
             "has_pair")  # fmt: skip


@pytest.mark.parametrize("key", [*KEYS, *UNCHECKED])
def test_a_damaged_entry_is_a_value_error_that_changes_nothing(key):
    state = saved_after(5)
    home = next(entry for entry in state["state"].values() if any(str(k).endswith("first_order") for k in entry))
    name = next(k for k in home if re.fullmatch(rf"fuse[._]{key}", str(k)))
    home[name] = "damaged"
    problem = Problem()
    optimizer = make(problem, "step:2")
    steps(optimizer, problem, 4)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="state_dict"):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == repr(before)


@pytest.mark.parametrize("theta", [7.0, NAN, -1.0])
def test_a_saved_theta_out_of_range_is_refused(theta):
    state = saved_after(5)
    state["state"][0][next(k for k in state["state"][0] if str(k).endswith("theta"))] = theta
    with pytest.raises(ValueError, match="theta"):
        make(Problem(), "step:2").load_state_dict(state)


@pytest.mark.parametrize("options", [{"history_size": 3}, {"first_order": torch.optim.SGD}])
def test_a_foreign_state_is_refused_and_changes_nothing(options):
    problem = Problem()
    optimizer = make(problem, "step:2", **options)
    steps(optimizer, problem, 4)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="state_dict"):
        optimizer.load_state_dict(saved_after(5))
    assert repr(optimizer.state_dict()) == repr(before)


@pytest.mark.filterwarnings("ignore:state_dict")
def test_the_state_of_a_bare_adam_loads_and_goes_on():
    bare, mine = Problem(), Problem()
    reference, optimizer = torch.optim.Adam(bare.params, lr=0.02), make(mine, "never")
    for _ in range(4):
        reference.step(bare.closure)
    mine.model.load_state_dict(bare.model.state_dict())
    optimizer.load_state_dict(reference.state_dict())
    for _ in range(2):  # twice is no harm
        optimizer.load_state_dict(copy.deepcopy(reference.state_dict()))
    for _ in range(4):
        reference.step(bare.closure)
        optimizer.step(mine.closure)
    assert torch.equal(bare.position, mine.position)


def test_a_float32_state_loads_into_a_float64_model():
    narrow = Problem(torch.float32)
    optimizer = make(narrow, "step:3")
    steps(optimizer, narrow, 7)
    wide = Problem()
    wide.model.load_state_dict(narrow.model.state_dict())
    twin = make(wide, "step:3")
    twin.load_state_dict(optimizer.state_dict())
    before = wide.loss().item()
    steps(twin, wide, 10)
    assert wide.loss().item() < before


@pytest.mark.parametrize("number", [False, True])
def test_the_loss_of_the_known_point_is_saved_exactly(number):
    problem = Problem()
    optimizer = make(problem, "always", full_batch=True)
    if number:
        problem.fail(lambda loss, params: loss.item(), at=None)
    steps(optimizer, problem, 5)
    twin, _ = copied(optimizer, problem, "state_dict")
    assert float(twin._second.known.loss) == float(optimizer._second.known.loss)


def test_a_loaded_full_batch_run_needs_no_more_evaluations():
    problem = Problem()
    optimizer = make(problem, "always", full_batch=True)
    steps(optimizer, problem, 5)
    twin, other = copied(optimizer, problem, "state_dict")
    assert steps(optimizer, problem, 1)[0]["evals"] == steps(twin, other, 1)[0]["evals"]


def through_distributed_functions(n, full_batch, flatten):
    """Save a run after n steps by torch's functions, load it, go on with both. Returns the two problems."""
    api = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    options = api.StateDictOptions(flatten_optimizer_state_dict=flatten)
    problem, other = Problem(), Problem()
    optimizer = make(problem, "step:4", full_batch=full_batch, handover="both")
    steps(optimizer, problem, n)
    state = api.get_optimizer_state_dict(problem.model, optimizer, options=options)
    other.model.load_state_dict(problem.model.state_dict())
    twin = make(other, "step:4", full_batch=full_batch, handover="both")
    twin.allocate()
    api.set_optimizer_state_dict(other.model, twin, state, options=options)
    steps(optimizer, problem, 5)
    steps(twin, other, 5)
    return problem, other


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("n", [2, 5, 9])
def test_distributed_checkpoint_functions(n, full_batch):
    problem, other = through_distributed_functions(n, full_batch, flatten=False)
    assert torch.equal(problem.position, other.position)


def test_a_flattened_distributed_checkpoint_says_what_it_loses():
    """Torch asks optimizer.state for the names to load, and ours are not in there."""
    with pytest.warns(UserWarning, match="flatten_optimizer_state_dict"):
        through_distributed_functions(9, full_batch=False, flatten=True)


# ---- the constructor
BAD = [
    *[("lr", v) for v in ("a", -1, NAN, None, True)],
    *[("switchover", v) for v in (5, "x", "step:-1", "step:1e3", "theta:2", "gradnorm:0", "gradnorm:1e-3:0", "", None)],
    *[("first_order", v) for v in (5, "Adam", torch.nn.Linear, torch.optim.LBFGS)],
    *[("first_order_args", v) for v in ({"foo": 1}, {"lr": 1})],
    *[("handover", v) for v in ("x", None, 5, [])],
    *[("history_size", v) for v in (0, -1, 1.5, "3", None, True)],
    *[("line_search", v) for v in ("x", None)],
    *[("max_evals", v) for v in (1, 2.5, INF)],
    *[("full_batch", v) for v in (1, None, "yes")],
    *[("history_dtype", v) for v in ("float32", torch.int8, torch.complex64)],
    *[(name, 0) for name in ("inner_steps", "check_every", "skip_nonfinite", "damped")],
    ("process_group", 1),
]
BAD += [("first_order_args", value) for value in (5, "ab", [("betas",)], {1: 2}, {"params": 1})]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_argument_is_named_and_changes_nothing(name, value):
    problem = Problem()
    before = problem.position
    with pytest.raises((TypeError, ValueError), match=rf"(?s)^{name}.*allowed is"):
        Fuse(problem.params, **{name: value})
    assert torch.equal(problem.position, before)


@pytest.mark.parametrize("value", [5, "x", None])
def test_lbfgs_checks_maximize(value):
    with pytest.raises((TypeError, ValueError), match="maximize"):
        LBFGS(Problem().params, maximize=value)


def test_fusepv_takes_hard_rules_only():
    with pytest.raises(ValueError, match=r"switchover: got 'theta:0.5'.*allowed"):
        FusePV(Problem().params, switchover="theta:0.5")


@pytest.mark.parametrize("scale", [1.0, 1e20, 1e30])
@pytest.mark.parametrize("dtypes", [[torch.float32], [torch.float32, torch.float64], [torch.float32, torch.complex128]])
def test_a_step_beyond_a_parameters_range_is_no_step(dtypes, scale):
    """Where the loss is finite at infinity and goes on falling, and the first trial is as long as a float can say."""
    params = [torch.nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in dtypes]
    optimizer = LBFGS(params, lr=1e300, max_evals=80)

    def closure():
        for p in params:
            p.grad = torch.zeros_like(p)
        params[0].grad.fill_(-scale)
        return float(1 / (1 + params[0].detach().double().abs()).sum())

    for _ in range(3):
        optimizer.step(closure)
        assert all(p.isfinite().all() for p in params)


@pytest.mark.parametrize("full_batch", [True, False])
def test_a_closure_that_raises_after_a_trial_with_nan_leaves_a_full_history_usable(full_batch):
    """The gradient's change along a trial is written where the next pair will lie, beside the pairs that are in use."""
    x = torch.nn.Parameter(torch.linspace(1, 2, 20, dtype=torch.float64))
    a = torch.logspace(0, 3, 20, dtype=torch.float64)
    opt = LBFGS([x], history_size=3, full_batch=full_batch)
    plan = []

    def closure():
        now = plan.pop(0) if plan else "ok"
        if now == "raise":
            raise KeyError("data")
        opt.zero_grad()
        loss = (a * x.square()).sum()
        loss.backward()
        if now == "nan":
            x.grad.fill_(math.nan)
        return loss

    for _ in range(8):
        opt.step(closure)
    before = opt.last_step.loss_after
    plan[:] = ["nan", "raise"] if full_batch else ["ok", "nan", "raise"]
    with pytest.raises(KeyError):
        opt.step(closure)
    opt.step(closure)
    assert len(opt._second.history) == 3
    assert opt.last_step.step_length > 0
    assert opt.last_step.loss_after < before


@pytest.mark.parametrize("switchover", ["always", "losschange:1e-30:5"])
@pytest.mark.parametrize("full_batch", [True, False])
def test_vectors_that_are_used_again_do_not_pile_up(switchover, full_batch):
    """With a frozen parameter the gradient is put together in new memory each time, and given back all the same."""
    x, frozen = torch.nn.Parameter(torch.linspace(1, 2, 20)), torch.nn.Parameter(torch.ones(3))
    frozen.requires_grad_(False)
    a = torch.logspace(0, 3, 20)
    opt = FusePV([x, frozen], lr=1e-3, switchover=switchover, full_batch=full_batch)

    def closure():
        opt.zero_grad()
        loss = (a * x.square()).sum()
        loss.backward()
        return loss

    for _ in range(30):
        opt.step(closure)
    assert len(opt._second.vectors._free) <= 4
