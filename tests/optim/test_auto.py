"""`Auto`: when it tries the second phase, what it keeps, when it goes back, and that all of it is saved."""

import copy
import itertools
import math
import random
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from fuse_lib import Fuse, FusePV
from fuse_lib.optim.observation import Backlog, Observation
from fuse_lib.optim.rule import Rule
from fuse_lib.switchover import Auto, GradientNorm, parse
from tests.optim.tools import closure_for, flat, minibatches, net, train

NAN = math.nan


class Trace:
    """Auto beside a loss that falls by so much a call, in each phase."""

    def __init__(self, full_batch=True, maximize=False, first=1.0, second=1.0, lasts=1.0, agreement=1.0):
        self.rule, self.told = Auto(), {"full_batch": full_batch, "maximize": maximize}
        self.memory, self.theta, self.calls, self.loss = self.rule.memory(), 1.0, 0, 1000.0
        self.first, self.second, self.lasts, self.agreement = first, second, lasts, agreement
        self.thetas, self.stop = [], None

    def call(self, loss=None, curvature=NAN):
        self.calls += 1
        here = self.loss if loss is None else loss
        values = {"grad_norm_sq": 1.0, "mean_norm_sq": self.agreement, "curvature": curvature}
        if self.theta == 0.0:
            self.loss -= self.second * self.lasts
            values |= {"loss_after": here - self.second, "evals": 2, "theta": 0.0, "stop_reason": self.stop}
        else:
            self.loss -= self.first
        if self.told["maximize"]:
            here, values["loss_after"] = -here, -values.get("loss_after", NAN)
        self.theta = self.rule.theta(Observation(self.calls, here, **values, **self.told), self.memory)
        self.thetas.append(self.theta)
        return self

    def run(self, calls):
        for _ in range(calls):
            self.call()
        return self

    @property
    def verdicts(self):
        return [(d.call, d.verdict) for d in self.rule.decisions(self.memory)]


# ---- the rule by itself
@pytest.mark.parametrize("maximize", [False, True])
def test_on_one_function_a_trial_that_gains_is_kept(maximize):
    trace = Trace(maximize=maximize).run(30)
    assert trace.verdicts == [(3, "trial"), (8, "second phase")]  # five calls of two evaluations
    first, second = trace.rule.decisions(trace.memory)[-1][2:]
    assert (first, second) == (3.0, 5.0)
    assert trace.thetas == [1.0] * 2 + [0.0] * 28
    assert Trace(maximize=maximize, second=0.01).run(30).thetas == trace.thetas


@pytest.mark.parametrize("maximize", [False, True])
def test_a_trial_that_gains_nothing_goes_back_and_the_next_one_waits_twice_as_long(maximize):
    trace = Trace(maximize=maximize, second=0.0).run(110)
    back = [call for call, verdict in trace.verdicts if verdict == "back: slower"]
    trials = [call for call, verdict in trace.verdicts if verdict == "trial"]
    assert back[0] == 8
    assert [trial - last for trial, last in zip(trials[1:], back, strict=False)] == [10, 20, 40]
    assert trials[0] == 3
    assert trace.thetas.count(0.0) == 5 * len(trials)


def test_on_changing_batches_a_trial_has_to_gain_a_quarter_of_what_the_first_phase_did():
    assert Trace(full_batch=False, second=0.7).run(25).verdicts[-1] == (25, "second phase")  # 2.8 in 4 calls; of 10
    assert Trace(full_batch=False, second=0.6).run(25).verdicts[-1] == (25, "back: slower")


def test_a_loss_that_rose_waits_for_the_sign_of_the_curvature():
    trace = Trace().call().call(1001.0).run(9)
    assert trace.verdicts == [(6, "trial"), (11, "second phase")]


def test_negative_curvature_with_a_loss_that_rose_is_waited_out():
    trace = Trace().call().call(1001.0)
    for sign in (1.0, 1.0, -1.0, 1.0, -1.0):
        trace.call(curvature=sign)
    assert trace.run(30).verdicts == [(27, "trial"), (32, "second phase")]


def test_negative_curvature_alone_is_no_reason_to_wait():
    trace = Trace().call().call(curvature=-1.0).call(curvature=-1.0)
    assert trace.verdicts == [(3, "trial")]


def test_nor_is_it_waited_for_ever():
    trace = Trace(first=-1.0)
    for _ in range(100):
        trace.call(curvature=-1.0)
    assert trace.verdicts == [(100, "trial")]


def test_no_progress_goes_back_at_any_time_and_converged_stays():
    trace = Trace().run(20)
    trace.stop = "no_progress"
    assert trace.call().verdicts[-1] == (21, "back: no progress")
    trace.stop = "converged"
    trial = trace.run(10).verdicts[-1]
    assert trial == (31, "trial")
    assert trace.call().verdicts[-1] == (32, "second phase")
    assert trace.run(5).thetas[-5:] == [0.0] * 5


@pytest.mark.parametrize("bad", [NAN, math.inf, -math.inf])
def test_values_that_are_not_finite_are_skipped_in_the_first_phase(bad):
    trace = Trace()
    trace.call(bad).call().call(bad).call().call(bad)
    assert trace.thetas == [1.0] * 5
    assert trace.call().theta == 0.0


def test_a_trial_ends_even_if_nothing_in_it_is_finite():
    trace = Trace().run(3)
    for _ in range(10):
        trace.call(NAN)
    assert trace.verdicts[-1][1] == "back: slower"


def test_on_changing_batches_noise_forbids_a_trial():
    assert Trace(full_batch=False, agreement=0.5).run(200).verdicts == []
    noise = random.Random(0)
    trace = Trace(full_batch=False)
    for _ in range(200):
        trace.call(trace.loss + noise.gauss(0.0, 5.0))
    assert trace.verdicts == []


@pytest.mark.parametrize("agreement", [1.0, NAN])  # NaN: the first phase keeps no mean gradient
def test_on_changing_batches_without_noise_it_tries_after_20_calls(agreement):
    trace = Trace(full_batch=False, agreement=agreement).run(40)
    assert trace.verdicts == [(20, "trial"), (25, "second phase")]


def test_on_changing_batches_a_gain_that_does_not_last_ends_the_trial_and_the_phase():
    assert Trace(full_batch=False, lasts=0.4).run(25).verdicts[-1] == (25, "back: slower")
    trace = Trace(full_batch=False).run(30)
    assert trace.verdicts[-1][1] == "second phase"
    trace.lasts = 0.3
    assert trace.run(15).verdicts[-1][1] == "back: the gain does not last"
    on_one = Trace().run(30)
    on_one.lasts = 0.3  # cannot be, on one function; so nothing is made of it
    assert on_one.run(30).verdicts[-1][1] == "second phase"


@pytest.mark.parametrize(("noise", "low", "high"), [(0.0, 0.999, 1.001), (1e3, 0.02, 0.1)])
def test_the_agreement_is_one_without_noise_and_a_twentieth_of_noise_alone(noise, low, high):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(2000, dtype=torch.float64))
    opt = Fuse([p], lr=1e-9, switchover="auto")

    def closure():
        p.grad = 1.0 + noise * torch.randn(2000, dtype=torch.float64)
        return 0.0

    for _ in range(60):
        opt.step(closure)
    assert low < opt._memory["agreement"] < high


def test_the_log_keeps_the_newest_and_has_one_size():
    rule, memory = Auto(), Auto().memory()
    size = len(memory["log"])
    for call in range(100):
        rule._log(Observation(call), memory, "trial")
    assert len(memory["log"]) == size
    assert [d.call for d in rule.decisions(memory)] == list(range(68, 100))


def test_its_string():
    assert str(Auto()) == "auto"
    assert parse("auto") == Auto()
    with pytest.raises(ValueError, match=r"switchover: got 'auto:3'.*allowed"):
        parse("auto:3")


# ---- in the optimizer
def rosenbrock(start=(-1.2, 1.0)):
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return x, lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def with_backward(opt, loss):
    def closure():
        opt.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


@pytest.mark.parametrize("cls", [Fuse, FusePV])
@pytest.mark.parametrize("handover", ["none", "pairs", "metric", "both"])
def test_it_solves_rosenbrock(cls, handover):
    x, loss = rosenbrock()
    opt = cls([x], lr=0.02, switchover="auto", handover=handover, full_batch=True)
    said = []
    for _ in range(100):
        opt.step(with_backward(opt, loss))
        said.append(opt.last_step.decision)
    assert loss() < 1e-12
    assert [(k, word) for k, word in enumerate(said, 1) if word] == [(d.call, d.verdict) for d in opt.decisions]
    assert opt.decisions[-1].verdict == "second phase"


def test_where_the_second_phase_finds_nothing_it_goes_back_and_the_first_goes_on():
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    opt = FusePV([p], lr=0.1, switchover="auto", full_batch=True, handover="none")

    def closure():  # the loss rises along −g
        p.grad = -2.0 * p.detach()
        return float(p.detach().square().sum())

    phases = []
    for _ in range(30):
        phases.append(opt.phase)
        opt.step(closure)
    assert phases[:8] == ["first_order"] * 6 + ["second_order", "first_order"]
    assert [d.verdict for d in opt.decisions][:3] == ["trial", "back: slower", "trial"]
    assert opt.state[p]["step"] == phases.count("first_order")  # Adam's moments were kept


def test_without_a_log_there_are_no_decisions():
    opt = FusePV([rosenbrock()[0]], switchover="step:3")
    assert opt.decisions == []
    assert Auto.hard


def test_on_noisy_minibatches_it_is_adam_bit_for_bit():
    (model, x, y), (twin, _, _) = net(), net()
    ours = FusePV(model.parameters(), lr=1e-2, switchover="auto")
    theirs = torch.optim.Adam(twin.parameters(), lr=1e-2)
    for k in range(100):
        ours.step(closure_for(ours, model, *minibatches(x, y, k)))
        theirs.step(closure_for(theirs, twin, *minibatches(x, y, k)))
    assert ours.decisions == []
    assert torch.equal(flat(model), flat(twin))


OPTIONS = {
    "pairs": {}, "both": {"handover": "both"}, "none": {"handover": "none"}, "every 4": {"check_every": 4},
    "sgd": {"first_order": torch.optim.SGD, "first_order_args": {"momentum": 0.9}, "lr": 3e-4},
    "plain sgd": {"first_order": torch.optim.SGD, "lr": 1e-3}, "decay": {"first_order_args": {"weight_decay": 0.1}},
}  # fmt: skip


@pytest.mark.parametrize("full_batch", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("how", ["state_dict", "deepcopy"])
def test_a_copy_goes_on_bit_for_bit_before_at_and_after_each_decision(name, full_batch, how, tmp_path):
    """Also where the batches are all the same without a promise, so that it switches on what it measures."""
    options = {"lr": 3e-3, "history_size": 4, "switchover": "auto", "full_batch": full_batch} | OPTIONS[name]
    model, x, y = net()
    opt = Fuse(model.parameters(), **options)
    decided = 0
    for k in range(45):
        if how == "deepcopy":
            twin, other = copy.deepcopy((model, opt))
        else:
            torch.save((model.state_dict(), opt.state_dict()), tmp_path / "saved.pt")
            weights, state = torch.load(tmp_path / "saved.pt", weights_only=True)
            twin = net()[0]
            twin.load_state_dict(weights)
            other = Fuse(twin.parameters(), **options)
            other.load_state_dict(state)
        path = train(other, twin, x, y, 2, full_batch=True)[0][:1]
        assert torch.equal(path[0], train(opt, model, x, y, 1, full_batch=True)[0][0]), k
        decided += opt.last_step.decision is not None
    assert decided >= 2
    assert str(opt.decisions) == str(other.decisions[: len(opt.decisions)])


def test_a_way_back_is_saved_too():
    """A loss that rises along −g: each trial fails, and the first phase goes on."""

    def make(start):
        p = torch.nn.Parameter(start)
        return p, Fuse([p], lr=0.1, switchover="auto", full_batch=True, handover="metric")

    def closure_of(p):
        def closure():
            p.grad = -2.0 * p.detach()
            return float(p.detach().square().sum())

        return closure

    p, opt = make(torch.ones(3, dtype=torch.float64))
    phases = set()
    for _ in range(40):
        twin, other = make(p.detach().clone())
        other.load_state_dict(copy.deepcopy(opt.state_dict()))
        for q, o in ((p, opt), (twin, other)):
            o.step(closure_of(q))
        assert torch.equal(p, twin)
        assert other.phase == opt.phase
        assert str(other.decisions) == str(opt.decisions)
        phases.add((opt.last_step.phase, opt.phase))
    assert {("first_order", "second_order"), ("second_order", "first_order")} < phases, "there and back"


def test_the_latch_of_another_rule_is_kept_and_so_is_its_own():
    x, loss = rosenbrock()
    opt = Fuse([x], lr=0.02, switchover=GradientNorm(1e9, 1), full_batch=True)
    for _ in range(3):
        opt.step(with_backward(opt, loss))
    twin = Fuse([rosenbrock()[0]], switchover="auto", full_batch=True)
    with pytest.warns(UserWarning, match="switchover"):
        twin.load_state_dict(opt.state_dict())
    assert twin.phase == "second_order"
    assert twin.decisions == []


def test_observations_that_wait_on_the_device_are_saved_and_older_ones_load():
    backlog = Backlog()
    backlog.add(1.5, torch.tensor(2.0), torch.tensor(0.5), torch.tensor(-0.25))
    again = Backlog()
    again.load(backlog.state(4), 1)
    older = [Backlog(), Backlog()]
    for columns, one in zip((2, 3), older, strict=True):
        one.load(backlog.state(4)[:, :columns], 1)
    read = lambda inner, values: [v.tolist() for v in (*inner, *values)]  # noqa: E731
    assert again.read(7, read) == [Observation(7, 1.5, 2.0, mean_norm_sq=0.5, curvature=-0.25)]
    for one in older:
        seen = one.read(7, read)[0]
        assert seen[:3] == (7, 1.5, 2.0)
        assert math.isnan(seen.curvature)


@pytest.mark.parametrize(("handover", "known"), [("pairs", True), ("both", True), ("none", False), ("metric", False)])
def test_the_curvature_along_the_first_phase_is_that_of_its_pairs(handover, known):
    """f = ½ x₁² − x₂²: sᵀy = s₁² − 2 s₂², of the steps as torch's Adam makes them."""
    p = torch.nn.Parameter(torch.tensor([1.0, 0.1], dtype=torch.float64))
    opt = Fuse([p], lr=0.02, switchover=Watching(), full_batch=True, handover=handover)
    h, path = torch.tensor([1.0, -2.0], dtype=torch.float64), []

    def closure():
        p.grad = h * p.detach()
        return 0.5 * float((h * p.detach() ** 2).sum())

    Watching.saw.clear()
    for _ in range(20):
        path.append(p.detach().clone())
        opt.step(closure)
    wanted = [float((h * (b - a) ** 2).sum()) for a, b in itertools.pairwise(path)]
    assert math.isnan(Watching.saw[0])
    assert Watching.saw[1:] == (pytest.approx(wanted) if known else pytest.approx([NAN] * 19, nan_ok=True))
    assert not known or min(wanted) < 0.0


def test_without_a_closure_it_says_what_to_do():
    model, *_ = net()
    opt = Fuse(model.parameters(), switchover="auto")
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=r"closure is None.*auto.*step:1000"):
        opt.step()


@dataclass(frozen=True)
class Watching(Rule):
    """Never switches, and writes down the curvature that it is told."""

    reads = ("curvature",)
    hard = True
    saw: ClassVar[list] = []

    def theta(self, seen, memory):
        self.saw.append(seen.curvature)
        return 1.0


@dataclass(frozen=True)
class ByTurns(Rule):
    """Five calls of one phase, five of the other."""

    hard = True
    returns = True

    def theta(self, seen, memory):
        return float(seen.iteration // 5 % 2 == 0)


@pytest.mark.parametrize("method", ["lbfgs", "cg", "newton-cg", "adahessian"])
def test_a_phase_that_is_left_remembers_nothing(method):
    """Of any second phase: when it begins anew it is as at its first beginning, whatever was learned in between."""
    x = torch.nn.Parameter(torch.tensor([-1.2, 1.0, 0.5], dtype=torch.float64))
    opt = Fuse([x], lr=1e-3, switchover=ByTurns(), second_order=method, full_batch=True, handover="none")

    def closure():
        x.grad = None
        loss = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
        loss.backward()
        return loss

    phases = []
    for _ in range(25):
        phases.append(opt.phase)
        opt.step(closure)
        if phases[-1] == "second_order" and opt.phase == "first_order":
            numbers, vectors = opt._second.method.state(None)
            fresh_numbers, fresh_vectors = Fuse([x], second_order=method)._new_second_phase().method.state(None)
            for name in fresh_numbers.keys() - {"probes"}:
                torch.testing.assert_close(
                    torch.as_tensor(numbers[name]), torch.as_tensor(fresh_numbers[name]), equal_nan=True
                )
            for name in vectors.keys() & fresh_vectors.keys():
                assert torch.equal(vectors[name], fresh_vectors[name])
            assert opt._second.known is None
    assert phases.count("second_order") == 10
    assert x.isfinite().all()
